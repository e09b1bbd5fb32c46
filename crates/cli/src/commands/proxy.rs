//! `lateen proxy`: a sidecar or a gateway as a process.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use lateen_proxy::app::App;
use lateen_proxy::config::{Bootstrap, Control};
use lateen_runtime::{log, sock};

use crate::args::ProxyArgs;
use crate::output::WithHint as _;

/// Which events are logged; like `info` or `warn,lateen_proxy=debug`.
const FILTER: &str = "LATEEN_LOG";
/// More than this is no bootstrap.
const MOST_BYTES: u64 = 16 << 20;

pub(super) fn run(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    let filter = std::env::var(FILTER).unwrap_or_else(|_| "info".to_owned());
    let log = log::init(log::Format::Text, &filter).hint(format!("{FILTER} says which events are logged"))?;
    let app = App::build(&bootstrap(args)?, Some(log)).context("build the proxy")?;
    // The workers have threads of their own; one is enough for what is around them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app.run())?;
    // What may still read a name or write a page is not waited for.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn bootstrap(args: &ProxyArgs) -> anyhow::Result<Bootstrap> {
    let text = match (args.bootstrap_fd, &args.bootstrap) {
        (Some(number), _) => {
            let descriptor = sock::take_inherited(number).context("take the descriptor of the bootstrap")?;
            read(File::from(descriptor)).context("read the bootstrap")?
        }
        (None, Some(path)) => open(path).with_context(|| format!("read {}", path.display()))?,
        (None, None) => anyhow::bail!("neither --bootstrap-fd nor --bootstrap is given"),
    };
    let mut bootstrap = Bootstrap::parse(&text)?;
    if let Some(resources) = &args.resources {
        bootstrap.control = with_resources(bootstrap.control, resources);
    }
    Ok(bootstrap)
}

/// The resources of a file take the place of a control plane's; certificates of files stay.
fn with_resources(control: Control, path: &Path) -> Control {
    let resources = path.to_owned();
    match control {
        Control::Files { certificate_chain, private_key, root_certificates, .. } => {
            Control::Files { resources, certificate_chain, private_key, root_certificates }
        }
        Control::Plane { .. } => {
            Control::Files { resources, certificate_chain: None, private_key: None, root_certificates: None }
        }
    }
}

fn open(path: &Path) -> std::io::Result<Vec<u8>> {
    read(File::open(path)?)
}

fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}
