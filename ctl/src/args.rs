//! The command line as types: global flags, and one variant per verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::Address;
use crate::commands;
use crate::output::Format;
use crate::roles::Role;

/// What `flyball help` says of flags that the help of each verb leaves out, and where to go on.
const AFTER_HELP: &str = "\
Options of every command, beside -n and -o:
  --addr <ADDRESS>     Address of the scheduler: unix:///path, https://host:port, or
                       http://127.0.0.1:port; by default the socket of `flyball up`
                       [env: FLYBALL_ADDR]
  --identity <DIR>     Directory with ca.pem, cert.pem and key.pem, for https://
                       [env: FLYBALL_IDENTITY]
  --token-file <FILE>  File with the scheduler's token [env: FLYBALL_TOKEN_FILE]; the token itself
                       may be in FLYBALL_TOKEN
  --no-headers         Tables without their header line

Start here: flyball demo, or flyball up and flyball init in a repository of yours.
Exit codes: flyball help exit-codes. Fields of a manifest: flyball schema.";

/// Flyball: a control plane for agent loops.
///
/// You declare when work is done (checks) and what may be touched (owns); Flyball gives that work to
/// exactly one node, lets an agent make one change at a time, verifies, keeps or reverts it, and
/// repeats until the checks pass or a bound trips.
#[derive(Debug, Clone, Parser)]
#[command(name = "flyball", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command. A flag wins over its environment variable.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Address of the scheduler: unix:///path, https://host:port or http://127.0.0.1:port [default:
    /// the socket of `flyball up`].
    #[arg(long, global = true, env = "FLYBALL_ADDR", value_name = "ADDRESS")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub addr: Option<Address>,

    /// Directory with ca.pem, cert.pem and key.pem, to reach a scheduler over https:// with.
    #[arg(long, global = true, env = "FLYBALL_IDENTITY", value_name = "DIR")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub identity: Option<PathBuf>,

    /// File that holds the scheduler's token. The token itself may be in FLYBALL_TOKEN.
    #[arg(long, global = true, env = "FLYBALL_TOKEN_FILE", value_name = "FILE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub token_file: Option<PathBuf>,

    /// Namespace of the loops [default: default].
    #[arg(short, long, global = true, env = "FLYBALL_NAMESPACE", value_name = "NAME")]
    #[arg(value_parser = namespace, hide_env = true)]
    pub namespace: Option<String>,

    /// Format of the output: table, wide, json, yaml or name.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub output: Format,

    /// Tables without their header line.
    #[arg(long, global = true, hide_short_help = true, hide_long_help = true)]
    pub no_headers: bool,
}

fn namespace(text: &str) -> Result<String, String> {
    let checked = flyball_core::ids::check_name(text);
    checked.map(|()| text.to_owned()).map_err(|invalid| invalid.to_string())
}

/// A verb of the client or a role of the binary.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Verbs that talk to a scheduler or to files.
    #[command(flatten)]
    Client(commands::Verb),
    /// Processes of the control plane.
    #[command(flatten)]
    Role(Role),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        let cli =
            Cli::try_parse_from(["flyball", "get", "loops", "-n", "team", "-o", "json"]).unwrap();
        assert_eq!(cli.global.namespace.as_deref(), Some("team"));
        assert_eq!(cli.global.output, Format::Json);
        let cli = Cli::try_parse_from(["flyball", "--addr", "http://a:1", "get", "loops"]).unwrap();
        assert_eq!(cli.global.addr, Some(Address::Http("http://a:1".to_owned())));
    }

    #[test]
    fn a_namespace_must_be_a_name() {
        let refused = Cli::try_parse_from(["flyball", "-n", "BAD_ns", "get", "loops"]).unwrap_err();
        assert!(refused.to_string().contains("BAD_ns"), "{refused}");
    }

    #[test]
    fn flags_that_verbs_do_not_explain_are_explained_once() {
        let command = Cli::command();
        let hidden = command.get_arguments().filter(|one| one.is_hide_long_help_set());
        let hidden: Vec<_> = hidden.filter_map(clap::Arg::get_long).collect();
        assert_eq!(hidden, ["addr", "identity", "token-file", "no-headers"]);
        assert!(hidden.iter().all(|long| AFTER_HELP.contains(&format!("--{long}"))));
    }

    #[test]
    fn a_bad_address_is_a_usage_error() {
        let refused = Cli::try_parse_from(["flyball", "--addr", "nowhere", "version"]).unwrap_err();
        assert!(refused.to_string().contains("unix:///path/to/scheduler.sock"), "{refused}");
    }
}
