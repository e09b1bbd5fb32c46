//! `lateen dump`: what a proxy believes, as YAML that a proxy can load again.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::DumpArgs;
use crate::mesh::{Announcement, proxy_page};
use crate::output::{Output, WithHint as _};

pub(super) fn run(args: DumpArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mesh = Announcement::find(args.state.state.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let (namespace, name) = args.proxy.split_once('/').unwrap_or(("default", &args.proxy));
    // An instance may be named, or its process, whose first instance is then meant.
    let pods = [format!("{name}.{namespace}"), format!("{name}-0.{namespace}")];
    let pod = pods.iter().find(|pod| mesh.proxy_socket(pod).exists());
    let pod =
        pod.with_context(|| format!("no proxy {namespace}/{name} runs")).hint("`lateen status` lists all")?;
    let page = runtime.block_on(proxy_page(&mesh.proxy_socket(pod), "/dump"))?;
    output.bytes(page.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
