//! Scripted worlds: each brings about one moment that random faults rarely meet, in which only the
//! protection that is named beside it stands between a fault and a violation. The same checker judges them.

mod leaders;
mod leases;
mod pushes;

use std::pin::Pin;

use crate::stage::Stage;

type Play = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// How a scripted world differs from others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// Signs of life of an agent in each iteration.
    pub(crate) beats: Option<u64>,
    /// How late every guard sees a deadline pass, milliseconds.
    pub(crate) lag_ms: Option<u64>,
}

/// A script.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Fails when the moment did not come.
    pub(crate) play: fn(Stage) -> Play,
}

/// An agent works for more than a second and a half.
const BRIEF: Shape = Shape { beats: Some(40), lag_ms: None };
/// An agent works for almost seven seconds, and guards are as slow as they may be.
const LONG: Shape = Shape { beats: Some(170), lag_ms: Some(400) };

macro_rules! scene {
    ($name:literal, $shape:expr, $play:path $(, $argument:expr)*) => {
        Scene {
            name: $name,
            shape: $shape,
            play: |stage| {
                Box::pin(async move {
                    let played = $play(&stage $(, $argument)*).await;
                    stage.ends().await;
                    played
                })
            },
        }
    };
}

/// All scripts.
pub(crate) const SCENES: &[Scene] = &[
    scene!("cancelled-behind-a-push", BRIEF, pushes::left_behind, pushes::Left::Cancelled),
    scene!("deleted-behind-a-push", BRIEF, pushes::left_behind, pushes::Left::Deleted),
    scene!("taken-over-behind-a-push", BRIEF, pushes::taken_over),
    scene!("late-takeover", BRIEF, pushes::late_takeover),
    scene!("answer-before-the-cut", LONG, leases::answered_late),
    scene!("answer-after-the-deadline", LONG, leases::answered_too_late),
    scene!("answer-without-renewal", LONG, leases::not_renewed),
    scene!("two-leaders", BRIEF, leaders::two_leaders, [&["a/**"], &["a/b/**"]]),
    scene!("two-leaders-one-name", BRIEF, leaders::two_leaders, [&["b/**", "d"], &["a/**", "d"]]),
    scene!("new-leader-behind", BRIEF, leaders::behind),
    scene!("first-listing-old", LONG, leaders::listed_before),
    scene!("assignment-without-answer", BRIEF, leaders::unanswered),
];
