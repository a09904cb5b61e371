//! A small expense ledger: reads `date,category,amount` lines and totals them.

pub mod core;
