//! The wire protocols of clients and providers: what is read of a request, what is changed in it, what its answer
//! tells while it passes, and how to say no. No I/O, and no bytes are written anew: see `edit`.

mod anthropic;
mod bad;
mod bound;
mod call;
mod chat;
mod edit;
mod endpoint;
mod estimate;
mod hosted;
mod json;
mod models;
mod refuse;
mod responses;
mod seen;
mod sse;
mod tap;

#[cfg(test)]
mod tests;

pub use self::bad::BadCall;
pub use self::bound::input_bound;
pub use self::call::{Call, parse};
pub use self::edit::{Edits, edit, takes_both_limits};
pub use self::endpoint::{Client, Endpoint, client, endpoint};
pub use self::estimate::{Most, estimate};
pub use self::json::Fault;
pub use self::models::{count_tokens, get_model, list_models};
pub use self::refuse::{Refusal, error_event, ping, refusal_event, refuse};
pub use self::seen::Seen;
pub use self::tap::{Outcome, Tap, read_answer};
