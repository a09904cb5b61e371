//! Placement: filter, score, and reasons with numbers.
