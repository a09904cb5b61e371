//! What a gateway may be told, and its bounds.

use std::path::PathBuf;
use std::time::Duration;

/// Longest body of a request. Anthropic takes 32 MB at most; OpenAI less.
pub(crate) const BODY_MAX: usize = 32 * 1024 * 1024;

/// Longest head of a request: keys, betas and trace contexts take two KiB.
pub(crate) const HEAD_MAX: usize = 64 * 1024;

/// Most header lines of a request.
pub(crate) const HEADERS_MAX: usize = 128;

/// Longest time for a request's head to arrive once it has begun.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Most connections of one run at a time; each takes a descriptor of the worker, and mostly one more upstream.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Most calls of one run that are under way; the rest wait their turn.
pub(crate) const CALLS_MAX: usize = 256;

/// Room for the bodies of a run's requests under way, in MiB: a body is kept until its answer has begun, and 256 of the
/// largest would be 8 GiB.
pub(crate) const BODIES_MIB_MAX: usize = 256;

/// Longest plain answer that is read to the end for its usage; of a longer one the reservation counts as used.
pub(crate) const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Longest body of an upstream's error that is passed on.
pub(crate) const ERROR_MAX: usize = 1024 * 1024;

/// Longest time for an error's body to arrive.
pub(crate) const ERROR_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest wait for quota unless told otherwise: ten of a provider's minutes. What an agent has in mind is lost with its
/// iteration, so that it takes more than a crowded minute to end one.
const QUOTA_WAIT: Duration = Duration::from_secs(600);

/// Settings of a worker's gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// After so long without a byte a stream's client gets a ping. Claude Code gives up after 300 s of silence;
    /// proxies and runtimes on the way often after 60 s.
    pub ping_after: Duration,
    /// A stream whose answer has not begun after this time (it waits for quota, for budget, or for a slow model)
    /// begins with pings.
    pub head_after: Duration,
    /// Longest time one call waits for room in its provider's account; then it is refused, and so are the run's
    /// other calls that need the same.
    pub quota_wait: Duration,
    /// Longest time one call waits for calls under way to give budget back; then it is refused.
    pub budget_wait: Duration,
    /// Longest time to connect to a provider.
    pub connect_max: Duration,
    /// Where requests and answers are kept, one file a call, each named on the call's span. Absent: nowhere, and
    /// their content is in no span, log or metric.
    pub capture: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(15),
            head_after: Duration::from_secs(10),
            quota_wait: QUOTA_WAIT,
            budget_wait: Duration::from_secs(600),
            connect_max: Duration::from_secs(10),
            capture: None,
        }
    }
}
