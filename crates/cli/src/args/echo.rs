//! The flags of `lateen echo`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::{parse_duration, parse_percent};

/// Run the test service: it answers with what it received and who called.
///
/// HTTP/1.1 and HTTP/2 (cleartext, prior knowledge) are served on the same ports; gRPC calls of
/// lateen.test.Echo/Echo and grpc.health.v1.Health/Check are answered on all of them. Without any
/// port it serves HTTP on $PORT, or on 8080.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen echo --http 8080 --grpc 9090 --tcp 7070 --name reviews --version v2
  lateen echo --name front --call http://reviews.default:9080/reviews/1 --call grpc://ratings:9090
  curl 'http://localhost:8080/?status=503&delay=100ms&size=1024'")]
pub struct EchoArgs {
    /// Port for HTTP/1.1 and HTTP/2; 0 takes a free one; repeatable.
    #[arg(long, value_name = "PORT")]
    pub http: Vec<u16>,

    /// Port for gRPC (HTTP/2; HTTP is answered as well); repeatable.
    #[arg(long, value_name = "PORT")]
    pub grpc: Vec<u16>,

    /// Port for TCP: each line received is answered with a line of JSON; repeatable.
    #[arg(long, value_name = "PORT")]
    pub tcp: Vec<u16>,

    /// HTTP port when no other is given.
    #[arg(long, env = "PORT", value_name = "PORT", hide = true)]
    pub port: Option<u16>,

    /// Address to listen on; all addresses of both families when absent.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,

    /// Name that the answers give; the host's name when absent.
    #[arg(long)]
    pub name: Option<String>,

    /// Version that the answers give.
    #[arg(long, default_value = "")]
    pub version: String,

    /// Call this on every HTTP request and put its answer into ours: http://, grpc:// or tcp://; repeatable.
    ///
    /// end-user, x-request-id and trace headers are passed on; HTTP_PROXY is honoured for http://.
    #[arg(long, value_name = "URL")]
    pub call: Vec<String>,

    /// Answer 502 when a called service failed or answered 5xx, instead of only telling so.
    #[arg(long)]
    pub need_calls: bool,

    /// Answer with this status.
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,

    /// Wait this long before each answer.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub delay: Duration,

    /// Answer this share of the requests with 500 (or with --status, when that is an error).
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub fail_percent: f64,

    /// On SIGTERM, how long requests under way may take to finish.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub drain: Duration,
}
