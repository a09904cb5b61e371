//! Resource sets: grammar, exact overlap, and the claim index.
