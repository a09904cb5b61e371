//! `flyball explain`: why a loop is where it is.

use clap::Args;
use flyball_proto::v1::GetLoopRequest;

use super::context::Context;
use super::target::{Noun, name_of};
use crate::{Exit, Outcome, view};

/// Arguments of `explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The loop.
    #[arg(value_name = "LOOP")]
    name: String,
}

impl Explain {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let name = name_of(Noun::Loops, &self.name)?;
        let namespace = context.namespace();
        let mut clients = context.clients().await?;
        let request = GetLoopRequest { namespace: namespace.clone(), name: name.clone() };
        let answer = clients.loops.explain(request).await?.into_inner();
        if context.format().is_structured() {
            context.out.document(&view::explain::document(&namespace, &name, &answer))?;
        } else {
            let text = view::explain::text(&name, &answer, context.out.has_color());
            context.out.raw(text.as_bytes())?;
        }
        Ok(Exit::Ok)
    }
}
