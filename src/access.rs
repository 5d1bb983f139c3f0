//! How brokers are reached and what they want to see first: flags of every program and of the command `nekton`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nekton_connectors::pulsar::{Compression, PulsarSettings};
use nekton_engine::{Error, Result};

/// Flags for topics on Pulsar; none is needed for a broker without TLS and authentication.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pulsar", about = None, long_about = None)]
pub struct Access {
    /// Token to authenticate with on Pulsar, or file:PATH of one
    #[arg(long, env = "NEKTON_PULSAR_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pulsar_token: Option<String>,
    /// Certificates of the authorities to trust with pulsar+ssl, in PEM [default: the public ones]
    #[arg(long, env = "NEKTON_PULSAR_CA", value_name = "FILE")]
    pulsar_ca: Option<PathBuf>,
    /// The broker's administration interface [default: the broker's host, port 8080, or 8443 with TLS]
    #[arg(long, env = "NEKTON_PULSAR_ADMIN", value_name = "URL")]
    pulsar_admin: Option<String>,
    /// How messages are compressed
    #[arg(long, env = "NEKTON_PULSAR_COMPRESSION", value_name = "HOW", default_value = "lz4")]
    pulsar_compression: Packing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Packing {
    None,
    Lz4,
    Zlib,
    Zstd,
    Snappy,
}

impl Access {
    /// What a job of this name does with its topics on Pulsar.
    pub(crate) fn settings(&self, job: &str) -> Result<PulsarSettings> {
        Ok(PulsarSettings {
            token: self.pulsar_token.as_deref().map(token).transpose()?,
            ca_file: self.pulsar_ca.clone(),
            admin_url: self.pulsar_admin.clone(),
            compression: match self.pulsar_compression {
                Packing::None => Compression::None,
                Packing::Lz4 => Compression::Lz4,
                Packing::Zlib => Compression::Zlib,
                Packing::Zstd => Compression::Zstd,
                Packing::Snappy => Compression::Snappy,
            },
            ..PulsarSettings::new(job)
        })
    }
}

/// A token, or the one in a file.
fn token(given: &str) -> Result<String> {
    let Some(path) = given.strip_prefix("file:") else { return Ok(given.to_owned()) };
    let path = path.strip_prefix("//").unwrap_or(path);
    let text = std::fs::read_to_string(path);
    Ok(text.map_err(|error| Error::io(format!("--pulsar-token {given}"), &error))?.trim().to_owned())
}
