//! What users see of an object: pure functions from documents to tables and texts.

pub(crate) mod claims;
pub(crate) mod definitions;
pub(crate) mod describe_loop;
pub(crate) mod describe_node;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod fields;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod iterations;
pub(crate) mod loops;
pub(crate) mod nodes;
pub(crate) mod route;
pub(crate) mod seals;
mod sheet;
mod words;

pub(crate) use words::tint;
