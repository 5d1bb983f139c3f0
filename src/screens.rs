//! Where a job shows itself: flags of every program.

use std::path::PathBuf;

use clap::Args;
use nekton_engine::{Error, Live, Result};
use nekton_ui::{About, Listen, Screens};

use crate::secret::secret;

/// The variable with the token itself.
const TOKEN: &str = "NEKTON_LISTEN_TOKEN";

/// Flags for the screens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Screens", about = None, long_about = None)]
pub(crate) struct ScreenFlags {
    /// Where the job shows itself, to browsers and to programs, from process 0; none: nowhere
    /// [default: 127.0.0.1:9090, or the next port that is free]
    #[arg(long, env = "NEKTON_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<Listen>,
    /// A file with a token that whoever looks must know, at least 16 letters; or NEKTON_LISTEN_TOKEN with the token itself.
    /// Needed where other machines can reach the address
    #[arg(long, env = "NEKTON_LISTEN_TOKEN_FILE", value_name = "FILE")]
    listen_token_file: Option<PathBuf>,
}

impl ScreenFlags {
    /// Starts the server, if there is to be one.
    pub(crate) fn open(&self, about: About, live: &Live) -> Result<Option<Screens>> {
        let token = secret("--listen-token-file", self.listen_token_file.as_deref(), TOKEN)?
            .map(|token| {
                String::from_utf8(token).map_err(|_| Error::config("the token for screens is no text"))
            })
            .transpose()?;
        let name = about.job.clone();
        if !matches!(self.listen, Some(Listen::Nowhere)) {
            allow_files();
        }
        let screens = Screens::open(self.listen.unwrap_or_default(), token, about, live.clone())?;
        if let Some(screens) = &screens {
            let invitation = screens.invitation();
            live.when_begun(move || crate::say(format_args!("{name} {invitation}")));
        }
        Ok(screens)
    }
}

/// Lets the process have as many files open as clients may connect, and its topics and checkpoints beside them, as far as
/// the system allows: many begin with 1,024, which a crowd of clients would use up.
fn allow_files() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        const ENOUGH: u64 = 8_192;
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < ENOUGH.min(hard)
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, ENOUGH.min(hard), hard)
        {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}
