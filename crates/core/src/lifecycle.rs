//! The life of a loop: one transition table.
