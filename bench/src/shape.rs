//! What is asked of the contenders: protocol, size, connections, rate.

use clap::ValueEnum;
use serde::Serialize;

use crate::contender::Contender;
use crate::contender::Contender::{
    Direct, EnvoyFull, EnvoyPair, Floor, Full, FullLogged, Haproxy, Minimal, Nginx, Pair,
};

/// The path that is asked for: the 103rd of the 200 routes has it.
pub(crate) const PATH: &str = "/api/v1/r102/item";

/// What callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Http1,
    H2c,
    Grpc,
}

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// HTTP/1.1, 1 KiB, 64 connections, as fast as answers come.
    Http1,
    /// The same at 1,000 requests per second.
    Http1At1000,
    /// The same at 5,000 requests per second.
    Http1At5000,
    /// One connection.
    OneConnection,
    /// 1,000 connections.
    ThousandConnections,
    /// 64 KiB.
    Body64k,
    /// 10 MiB, 8 connections.
    Body10m,
    /// HTTP/2 without TLS on both sides, 4 connections of 16 streams.
    H2c,
    /// gRPC unary calls, 4 connections of 16 streams.
    Grpc,
    /// HTTP/1.1 callers of an HTTP/2 backend.
    Http1ToHttp2,
}

impl Shape {
    pub(crate) const ALL: [Shape; 10] = [
        Shape::Http1,
        Shape::Http1At1000,
        Shape::Http1At5000,
        Shape::OneConnection,
        Shape::ThousandConnections,
        Shape::Body64k,
        Shape::Body10m,
        Shape::H2c,
        Shape::Grpc,
        Shape::Http1ToHttp2,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Shape::Http1 => "HTTP/1.1, 1 KiB, 64 connections, saturated",
            Shape::Http1At1000 => "HTTP/1.1, 1 KiB, 64 connections, 1,000 requests/s",
            Shape::Http1At5000 => "HTTP/1.1, 1 KiB, 64 connections, 5,000 requests/s",
            Shape::OneConnection => "HTTP/1.1, 1 KiB, 1 connection, saturated",
            Shape::ThousandConnections => "HTTP/1.1, 1 KiB, 1,000 connections, saturated",
            Shape::Body64k => "HTTP/1.1, 64 KiB, 64 connections, saturated",
            Shape::Body10m => "HTTP/1.1, 10 MiB, 8 connections, saturated",
            Shape::H2c => "h2c, 1 KiB, 4 connections of 16 streams, saturated",
            Shape::Grpc => "gRPC unary, 1 KiB, 4 connections of 16 streams, saturated",
            Shape::Http1ToHttp2 => "HTTP/1.1 to HTTP/2, 1 KiB, 64 connections, saturated",
        }
    }

    /// Who takes part.
    pub(crate) fn contenders(self) -> &'static [Contender] {
        match self {
            Shape::Http1 => &[Floor, Minimal, Full, FullLogged, Pair, Nginx, Haproxy, EnvoyFull, EnvoyPair],
            Shape::Http1At1000 => &[Direct, Floor, Full, Pair, Nginx, Haproxy, EnvoyFull, EnvoyPair],
            // A pair of Envoys on one core cannot answer so many.
            Shape::Http1At5000 => &[Direct, Floor, Full, Nginx, Haproxy, EnvoyFull],
            Shape::OneConnection | Shape::ThousandConnections | Shape::Body64k | Shape::Body10m => {
                &[Floor, Full, Nginx, Haproxy, EnvoyFull]
            }
            Shape::H2c | Shape::Grpc | Shape::Http1ToHttp2 => &[Full, EnvoyFull],
        }
    }

    pub(crate) fn caller(self) -> Caller {
        match self {
            Shape::H2c => Caller::H2c,
            Shape::Grpc => Caller::Grpc,
            _ => Caller::Http1,
        }
    }

    /// Whether the backend speaks HTTP/2.
    pub(crate) fn is_http2_behind(self) -> bool {
        matches!(self, Shape::H2c | Shape::Grpc | Shape::Http1ToHttp2)
    }

    /// Bytes of an answer's body.
    pub(crate) fn body(self) -> usize {
        match self {
            Shape::Body64k => 64 << 10,
            Shape::Body10m => 10 << 20,
            _ => 1 << 10,
        }
    }

    pub(crate) fn connections(self) -> u32 {
        match self {
            Shape::OneConnection => 1,
            Shape::ThousandConnections => 1000,
            Shape::Body10m => 8,
            Shape::H2c | Shape::Grpc => 4,
            _ => 64,
        }
    }

    /// Requests under way on each HTTP/2 connection.
    pub(crate) fn streams(self) -> Option<u32> {
        matches!(self, Shape::H2c | Shape::Grpc).then_some(16)
    }

    /// Requests per second; none is as fast as answers come.
    pub(crate) fn rate(self) -> Option<f64> {
        match self {
            Shape::Http1At1000 => Some(1_000.0),
            Shape::Http1At5000 => Some(5_000.0),
            _ => None,
        }
    }
}
