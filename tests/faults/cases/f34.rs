//! F34: an agent tries to get secrets and data out.

use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case =
    Case { id: "F34", title: "agent tries to exfiltrate", usual: true, run };

fn run(_: &Attempt) -> Outcome {
    Outcome::Skipped(
        "runs are not confined yet (no network, file-system or resource limits); nothing here could \
         hold an agent back"
            .to_owned(),
    )
}
