//! The governor: the pure decision function of a loop.
