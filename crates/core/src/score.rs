//! Scores: what a check's output says, as a distance.
