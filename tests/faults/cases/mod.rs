//! The cases, in the order of their numbers.

mod f01;
mod f02;
mod f06;
mod soak;

use super::runner::Case;

pub(crate) use soak::SOAK;

/// All named cases.
pub(crate) fn all() -> Vec<Case> {
    vec![f01::CASE, f02::CASE, f06::CASE]
}
