//! The cases, in the order of their numbers.

mod f01;
mod f02;
mod f03;
mod f04;
mod f05;
mod f06;
mod f07;
mod f08;
mod f09;
mod f10;
mod f11;
mod f12;
mod f13;
mod f14;
mod f15;
mod f16;
mod f17;
mod f18;
mod soak;

use super::runner::Case;

pub(crate) use soak::SOAK;

/// All named cases.
pub(crate) fn all() -> Vec<Case> {
    vec![
        f01::CASE,
        f02::CASE,
        f03::CASE,
        f04::CASE,
        f05::CASE,
        f06::CASE,
        f07::CASE,
        f08::CASE,
        f09::CASE,
        f10::CASE,
        f11::CASE,
        f12::CASE,
        f13::CASE,
        f14::CASE,
        f15::CASE,
        f16::CASE,
        f17::CASE,
        f18::CASE,
    ]
}
