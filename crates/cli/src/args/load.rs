//! The flags of `lateen load`.

use std::time::Duration;

use clap::Args;

use super::parse_duration;

/// Send HTTP requests at a constant rate and tell how long the answers took.
///
/// With --rate the latency of a request counts from the moment it was due, not from the moment it
/// could be sent: a server that stalls cannot hide it (no coordinated omission). Without --rate each
/// connection sends its next request as soon as it has its answer.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen load http://localhost:8080/ --rate 1000 --connections 64 --duration 30s
  lateen load http://localhost:8080/ --duration 5s --warmup 1s --json
  lateen load http://127.0.0.1:8080/cart --header 'host: shop.example' --method POST --body-size 1024 --strict")]
pub struct LoadArgs {
    /// What to request: an http:// address.
    pub url: String,

    /// Requests per second over all connections; 0 sends as fast as the answers come.
    #[arg(long, short, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub rate: f64,

    /// Connections kept open.
    #[arg(long, short, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,

    /// How long to measure.
    #[arg(long, short, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub duration: Duration,

    /// How long to send before measuring begins.
    #[arg(long, default_value = "0", value_name = "TIME", value_parser = parse_duration)]
    pub warmup: Duration,

    /// How long one answer may take.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Threads that send; the number of cores, at most 4, when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: Option<u32>,

    /// A header to send, as `name: value`; repeatable.
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,

    /// Request method.
    #[arg(long, short = 'X', default_value = "GET")]
    pub method: String,

    /// Bytes of body in each request.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=64 << 20))]
    pub body_size: u32,

    /// Speak HTTP/2 (cleartext, prior knowledge).
    #[arg(long)]
    pub h2: bool,

    /// With --h2: requests under way at a time on each connection.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub streams: u32,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,

    /// Exit with 1 when any request failed or was answered with 4xx or 5xx.
    #[arg(long)]
    pub strict: bool,
}
