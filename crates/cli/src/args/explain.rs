//! The flags of `lateen explain`.

use std::path::PathBuf;

use clap::Args;

use super::{FormatArgs, StateArgs};

/// Tell what would happen to a request, decision by decision.
///
/// The same functions decide as in the proxies: service, route and rule with why the others did not
/// match, weights, endpoints, mTLS, policies with their verdicts. Asks the running mesh, or reads the files of
/// a directory, as if its processes ran.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen explain --from default/front --to http://reviews:9080/ --header end-user=jason
  lateen explain --dir examples/shop --from default/front --to http://ratings:9080/ -X POST
  lateen explain --dir examples/shop --from default/shop --to http://shop.example.com/ --output json")]
pub struct ExplainArgs {
    /// Workload or process that sends the request; of a gateway, a request that enters there.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub from: String,

    /// What it requests: http://, or https:// and tcp:// for bytes that no proxy looks into.
    #[arg(long, value_name = "URL")]
    pub to: String,

    /// Header of the request; repeatable.
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    pub header: Vec<String>,

    /// Method of the request.
    #[arg(long, short = 'X', default_value = "GET")]
    pub method: String,

    /// Directory of objects to read, instead of asking the running mesh.
    #[arg(long, value_name = "DIR", conflicts_with = "state")]
    pub dir: Option<PathBuf>,

    #[command(flatten)]
    pub state: StateArgs,

    #[command(flatten)]
    pub format: FormatArgs,
}
