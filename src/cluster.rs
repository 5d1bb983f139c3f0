//! How the processes of one job trust and watch one another: flags of every program.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nekton_engine::{Cluster, ClusterTls, Result, Secret};

use crate::secret::{read, secret};

/// The variable with a secret itself.
pub(crate) const SECRET: &str = "NEKTON_SECRET";

/// Flags for jobs of several processes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Several processes", about = None, long_about = None)]
pub(crate) struct ClusterFlags {
    /// A file with a secret that all processes of the job know, at least 16 bytes; or NEKTON_SECRET with the secret itself
    #[arg(long, env = "NEKTON_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// This process's certificate for mutual TLS between processes, in PEM; it names its host in --hosts
    #[arg(long, env = "NEKTON_CLUSTER_TLS_CERT", value_name = "FILE", requires_all = ["cluster_tls_key", "cluster_tls_ca"])]
    cluster_tls_cert: Option<PathBuf>,
    /// The private key of this process's certificate, in PEM
    #[arg(long, env = "NEKTON_CLUSTER_TLS_KEY", value_name = "FILE", requires = "cluster_tls_cert")]
    cluster_tls_key: Option<PathBuf>,
    /// The certificate of the authority that has signed those of all processes, in PEM
    #[arg(long, env = "NEKTON_CLUSTER_TLS_CA", value_name = "FILE", requires = "cluster_tls_cert")]
    cluster_tls_ca: Option<PathBuf>,
    /// A process of which nothing is heard for so long is lost, and ends the job
    #[arg(
        long,
        env = "NEKTON_PEER_TIMEOUT",
        value_name = "TIME",
        default_value = "5s",
        value_parser = peer_timeout
    )]
    peer_timeout: Duration,
}

fn peer_timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let fits = (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time);
    if fits { Ok(time) } else { Err("give something between 100ms and 1h".to_owned()) }
}

impl ClusterFlags {
    /// What the engine is told, for a job of so many processes.
    pub(crate) fn cluster(&self, processes: usize) -> Result<Cluster> {
        if processes < 2 {
            return Ok(Cluster::default());
        }
        let secret = secret("--secret-file", self.secret_file.as_deref(), SECRET)?;
        let secret = secret.map(|bytes| Secret::new(&bytes)).transpose()?;
        let files = (&self.cluster_tls_cert, &self.cluster_tls_key, &self.cluster_tls_ca);
        let tls = match files {
            (Some(certificate), Some(key), Some(authority)) => Some(ClusterTls::from_pem(
                &read("--cluster-tls-cert", certificate)?,
                &read("--cluster-tls-key", key)?,
                &read("--cluster-tls-ca", authority)?,
            )?),
            _ => None,
        };
        Ok(Cluster { secret, tls, silence: self.peer_timeout, program: program() })
    }
}

/// A hash of this program's binary, so that different builds do not work together; 0 if it cannot be read.
fn program() -> u64 {
    let hash = || -> std::io::Result<u64> {
        let mut file = std::fs::File::open(std::env::current_exe()?)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut piece = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            context.update(&piece[..count]);
        }
        let digest = context.finish();
        let (first, _) = digest.as_ref().split_first_chunk::<8>().ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(u64::from_le_bytes(*first))
    };
    hash().unwrap_or(0)
}
