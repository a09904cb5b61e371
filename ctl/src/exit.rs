//! Exit codes: a closed set, documented by `flyball help exit-codes` and stable.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It could not be done.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The loop finished, but not with `Converged`.
    Unsuccessful = 3,
    /// Not authenticated or not allowed.
    Auth = 4,
    /// No node can take the loop.
    NotPlaced = 5,
    /// A budget has ended.
    Budget = 6,
    /// What was waited for did not happen in time.
    WaitTimeout = 7,
    /// Interrupted by the user.
    Interrupted = 130,
}

/// Text of `flyball help exit-codes`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of flyball:
    0  ok
    1  error: it could not be done; the message says why
    2  usage: the command line is wrong
    3  the loop finished, but not Converged (wait, apply --wait)
    4  not authenticated, or not allowed
    5  not placed: no node can ever take the loop (apply --wait)
    6  a budget has ended; the loop is parked until it is extended (apply --wait)
    7  timeout: what was waited for did not happen in time (wait, drain --wait)
  130  interrupted
";
