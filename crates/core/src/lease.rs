//! Lease arithmetic: deadlines from the time a renewal was sent.
