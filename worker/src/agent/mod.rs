//! What an agent says while it acts: parsers of the output of command line agents, and the rules by which one is
//! ended that is through and does not go, or that says nothing any more. Pure: bytes and times in, verdicts out.

mod event;
mod lines;
mod parse;
mod supervisor;

pub(crate) use supervisor::{Conclusion, Rules, Supervisor};
