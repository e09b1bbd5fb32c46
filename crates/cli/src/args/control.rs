//! The flags of `lateen control`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

/// Run the control plane: reads objects, serves proxies, signs their certificates.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  lateen control --dir examples/shop --state /var/lib/lateen --run /run/lateen --listen 127.0.0.1:15012")]
pub struct ControlArgs {
    /// Directory of YAML files to read and to watch.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,

    /// Directory for what outlives the process: root key, last good objects, registrations.
    #[arg(long, value_name = "PATH")]
    pub state: PathBuf,

    /// Directory for its sockets: control.sock for proxies, api.sock for the machine's tools.
    #[arg(long, value_name = "PATH")]
    pub run: PathBuf,

    /// Serve proxies at this TCP address as well.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// Range of the services' addresses, one for each family.
    #[arg(long, value_name = "CIDR")]
    pub service_range: Vec<IpNet>,

    /// End when standard input does, so that a supervisor that is killed leaves nothing behind.
    #[arg(long, hide = true)]
    pub end_with_input: bool,

    /// Let traffic pass that a security object not enforced yet would have to judge.
    #[arg(long)]
    pub allow_unenforced: bool,
}
