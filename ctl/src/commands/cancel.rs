//! `flyball cancel`: ends loops.

use clap::Args;
use flyball_proto::v1::CancelLoopRequest;

use super::context::Context;
use super::target::{Noun, names_of};
use crate::objects::{self, LoopDocument};
use crate::output::Format;
use crate::{Exit, Outcome, retry};

/// Arguments of `cancel`.
#[derive(Debug, Clone, Args)]
pub struct Cancel {
    /// The loops.
    #[arg(value_name = "LOOP", required = true)]
    names: Vec<String>,
    /// Why, for whoever looks at the loop later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl Cancel {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let names = names_of(Noun::Loops, &self.names)?;
        let clients = context.clients().await?;
        for name in names {
            let request = CancelLoopRequest {
                namespace: context.namespace(),
                name: name.clone(),
                reason: self.reason.clone(),
            };
            let send = || {
                let (mut loops, request) = (clients.loops.clone(), request.clone());
                async move { loops.cancel(request).await }
            };
            let note = |text| context.out.note(text);
            let object = retry::until_answered(send, note).await.into_result()?;
            match context.format() {
                Format::Json | Format::Yaml => {
                    context.out.document(&objects::json(&object.object_json)?)?;
                }
                Format::Name => context.out.line(format!("loop/{name}"))?,
                Format::Table | Format::Wide => {
                    let phase = LoopDocument::read(&object)?.status.phase;
                    let outcome = match phase.is_terminal() {
                        true => format!("already {phase}"),
                        false => "cancel requested".to_owned(),
                    };
                    context.out.line(format!("loop/{name} {outcome}"))?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}
