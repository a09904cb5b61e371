//! F36: old and new versions of the program work together.

use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case = Case { id: "F36", title: "mixed versions", usual: true, run };

fn run(_: &Attempt) -> Outcome {
    Outcome::Skipped(
        "there is no earlier version yet to run beside this one; that unknown fields and keys of a \
         newer one survive is tested with the documents and the store"
            .to_owned(),
    )
}
