//! nginx and haproxy from the distribution, as plain reverse proxies: they do less than the others.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;

use crate::child::{self, Measured};
use crate::contender::{CORE, Running, Stage, free_address};

/// A program in the usual places.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
}

/// One process, which is its own worker, with kept upstream connections and no access log.
pub(crate) fn nginx(stage: &Stage) -> anyhow::Result<Running> {
    let address = free_address()?;
    let scratch = stage.scratch.join("nginx");
    std::fs::create_dir_all(&scratch)?;
    let here = scratch.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {here}/{kind};\n"))
        .concat();
    let config = format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {here}/pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  tcp_nodelay on;
{temporary}  upstream backend {{ server {}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
    }}
  }}
}}
",
        stage.http1
    );
    let path = scratch.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = child::on_core(CORE, find("nginx").context("nginx is not installed")?)?;
    command.arg("-p").arg(&scratch).arg("-c").arg(&path).stderr(Stdio::null());
    Ok(Running::one(address, Measured::start(command)?))
}

/// One thread, with kept upstream connections and no log.
pub(crate) fn haproxy(stage: &Stage) -> anyhow::Result<Running> {
    let address = free_address()?;
    let config = format!(
        "global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend callers
  bind {address}
  default_backend backend
backend backend
  http-reuse always
  server one {}
",
        stage.http1
    );
    let path = stage.scratch.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let mut command = child::on_core(CORE, find("haproxy").context("haproxy is not installed")?)?;
    command.arg("-db").arg("-q").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Running::one(address, Measured::start(command)?))
}
