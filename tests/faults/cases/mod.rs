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
mod f19;
mod f20;
mod f21;
mod f22;
mod f23;
mod f24;
mod f25;
mod f26;
mod f27;
mod f28;
mod f29;
mod f30;
mod f31;
mod f32;
mod f33;
mod f34;
mod f35;
mod f36;
mod f37;
mod f38;
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
        f19::CASE,
        f20::CASE,
        f21::CASE,
        f22::CASE,
        f23::CASE,
        f24::CASE,
        f25::CASE,
        f26::CASE,
        f27::CASE,
        f28::CASE,
        f29::CASE,
        f30::CASE,
        f31::CASE,
        f32::CASE,
        f33::CASE,
        f34::CASE,
        f35::CASE,
        f36::CASE,
        f37::CASE,
        f38::CASE,
    ]
}
