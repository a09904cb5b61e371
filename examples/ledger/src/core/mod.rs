//! Parsing, totals and the report.

pub mod parse;
pub mod report;
pub mod totals;
