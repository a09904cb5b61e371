//! What is understood of an agent's output, whatever its form.

use flyball_core::model::{LastWord, Money, Usage};

/// Something that an agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentEvent {
    /// It is there; with its program's version, if it says one.
    Began {
        /// The version, or nothing.
        version: String,
    },
    /// A turn of it: one answer of its model.
    Turn,
    /// A tool begins to run.
    ToolBegan {
        /// Which run of a tool.
        id: String,
    },
    /// A tool has ended.
    ToolEnded {
        /// Which run of a tool.
        id: String,
    },
    /// Something in words.
    Said(String),
    /// It repeats a call that failed.
    Retries,
    /// All that it has used so far, by its own count; replaces what it said before.
    Used {
        /// Tokens.
        usage: Usage,
        /// Money, if it reports any.
        cost: Option<Money>,
    },
    /// Its last word, with the turns that it counts.
    Ended {
        /// How it says that it went.
        word: LastWord,
        /// Turns, if it counts them.
        turns: Option<u32>,
    },
    /// Well-formed and of a kind that is of no interest or not known.
    Other,
    /// Not of the form that was expected.
    Unread,
}
