//! `flyball pki show`.

use std::path::{Path, PathBuf};

use clap::Args;
use flyball_pki::{CA_CERTIFICATES, CERTIFICATE, Facts, facts_of_pem};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::context::Context;
use super::failed;
use crate::output::{Cell, Format, Table, Tint};
use crate::{Exit, Failure, Outcome};

/// Arguments of `pki show`.
#[derive(Debug, Clone, Args)]
pub(super) struct Show {
    /// Files of certificates, or directories with cert.pem or ca.pem.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Show {
    pub(super) fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut found = Vec::new();
        for path in &self.paths {
            for file in files(path) {
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    Failure::new("pki", format!("{} cannot be read: {error}", file.display()))
                })?;
                let facts = facts_of_pem(&text).map_err(|error| {
                    let Failure { message, .. } = failed(error);
                    Failure::new("pki", format!("{}: {message}", file.display()))
                })?;
                found.extend(facts.into_iter().map(|facts| (file.clone(), facts)));
            }
        }
        if context.format().is_structured() {
            let items: Vec<Value> =
                found.iter().map(|(file, facts)| document(file, facts)).collect();
            context.out.document(&json!({"items": items}))?;
            return Ok(Exit::Ok);
        }
        let mut table = Table::new(["FILE", "WHO", "UNTIL", "ISSUER", "SERIAL", "HOSTS"]);
        let now = Timestamp::now();
        for (file, facts) in &found {
            if context.format() == Format::Name {
                context.out.line(&facts.serial)?;
                continue;
            }
            let tint = if facts.is_valid_at(now) { Tint::Plain } else { Tint::Bad };
            table.row([
                file.display().to_string().into(),
                who(facts).into(),
                Cell::tinted(facts.not_after.to_string(), tint),
                facts.issuer.as_str().into(),
                facts.serial.as_str().into(),
                facts.hosts.join(",").into(),
            ]);
        }
        context.out.table(&mut table)?;
        Ok(Exit::Ok)
    }
}

/// What is shown of a path: the certificate and the authorities of a directory, or the file.
fn files(path: &Path) -> Vec<PathBuf> {
    let inside: Vec<PathBuf> = [CERTIFICATE, CA_CERTIFICATES].map(|name| path.join(name)).to_vec();
    let inside: Vec<PathBuf> = inside.into_iter().filter(|file| file.is_file()).collect();
    if inside.is_empty() { vec![path.to_owned()] } else { inside }
}

fn who(facts: &Facts) -> String {
    match &facts.identity {
        Some(identity) => identity.to_string(),
        None if facts.is_authority => format!("authority {}", facts.name),
        None => facts.name.clone(),
    }
}

fn document(file: &Path, facts: &Facts) -> Value {
    json!({
        "file": file.display().to_string(),
        "identity": facts.identity.as_ref().map(ToString::to_string),
        "name": facts.name,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "authority": facts.is_authority,
        "notBefore": facts.not_before.to_string(),
        "notAfter": facts.not_after.to_string(),
        "hosts": facts.hosts,
        "keySha256": facts.key,
    })
}
