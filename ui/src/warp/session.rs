//! One client, without its socket: what it says, and what is to be done. Pure.

use std::sync::Arc;

use super::commands::Told;
use super::envelope::{Address, Said, understand};
use super::place::{Nowhere, Place, place};
use crate::recon::Value;

/// What is to be done for a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Do {
    /// It is to hear of this lane, whose address it writes so.
    Link {
        to: Arc<str>,
        place: Result<Place, Nowhere>,
        sync: bool,
    },
    Unlink {
        to: Arc<str>,
    },
    /// A command to this view.
    Tell(String, Told),
    /// A command that is for nobody.
    Ignore(Address),
    Say(&'static str),
    /// The last that it hears, and why it is closed.
    Refuse(&'static str, &'static str),
}

#[derive(Debug)]
pub(super) struct Session {
    /// Whether it has the token, or needs none.
    pub(super) known: bool,
    needs_token: bool,
}

impl Session {
    pub(super) fn new(known: bool, needs_token: bool) -> Self {
        Session { known, needs_token }
    }

    /// Takes a message. `is_token` says whether a text is the token.
    ///
    /// # Errors
    /// Why the connection is closed.
    pub(super) fn hear(&mut self, text: &str, is_token: impl Fn(&str) -> bool) -> Result<Do, String> {
        let said = understand(text)?;
        Ok(match said {
            Said::Auth(_) if !self.needs_token => Do::Say("@authed"),
            Said::Auth(credentials) => match token(&credentials).is_some_and(is_token) {
                true => {
                    self.known = true;
                    Do::Say("@authed")
                }
                false => Do::Refuse("@deauthed", "@auth has not the token: @auth{token:\"..\"}"),
            },
            Said::Deauth if !self.needs_token => Do::Say("@deauthed"),
            Said::Deauth => Do::Refuse("@deauthed", "you wanted it so"),
            _ if !self.known => Do::Refuse("@deauthed", "a token is needed first: @auth{token:\"..\"}"),
            Said::Link { to, sync } => {
                let place = place(&to);
                Do::Link { to: to.written().into(), place, sync }
            }
            Said::Unlink(to) => Do::Unlink { to: to.written().into() },
            Said::Command(to, body) => match Told::of(&to, body) {
                Some((view, told)) => Do::Tell(view, told),
                None => Do::Ignore(to),
            },
        })
    }
}

/// The token that `@auth` has: `@auth{token:".."}`, or `@auth ".."`.
fn token(credentials: &Value) -> Option<&str> {
    credentials.text().or_else(|| credentials.slot("token")?.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(session: &mut Session, text: &str) -> Result<Do, String> {
        session.hear(text, |token| token == "secret")
    }

    #[test]
    fn nothing_is_shown_and_taken_before_the_token() {
        let refused = |text: &str| hear(&mut Session::new(false, true), text);
        for text in [
            r#"@link(node:"/v",lane:records)"#,
            r#"@command(node:"/v/7",lane:a)1"#,
            "@auth",
            "@auth{token:wrong}",
            "@auth{token:{a:secret}}",
            "@deauth",
        ] {
            assert!(matches!(refused(text), Ok(Do::Refuse("@deauthed", _))), "{text}: {:?}", refused(text));
        }
        for text in ["@auth{token:secret}", "@auth secret", r#"@auth("x"){token:"secret"}"#] {
            let mut session = Session::new(false, true);
            assert_eq!(hear(&mut session, text), Ok(Do::Say("@authed")), "{text}");
            let linked = hear(&mut session, r#"@sync(node:"/v/7",lane:state)"#);
            assert!(matches!(linked, Ok(Do::Link { sync: true, place: Ok(_), .. })), "{linked:?}");
        }
    }

    #[test]
    fn without_a_token_everybody_is_known() {
        let mut session = Session::new(true, false);
        assert_eq!(hear(&mut session, "@auth{a:b}"), Ok(Do::Say("@authed")));
        assert_eq!(hear(&mut session, "@deauth"), Ok(Do::Say("@deauthed")));
        assert!(matches!(hear(&mut session, r#"@command(node:"/v/7",lane:a)1"#), Ok(Do::Tell(..))));
        assert!(matches!(hear(&mut session, r#"@command(node:"/",lane:a)1"#), Ok(Do::Ignore(_))));
        assert!(matches!(hear(&mut session, r#"@unlink(node:"/v/7",lane:a)"#), Ok(Do::Unlink { .. })));
        assert!(hear(&mut session, "{}").is_err());
    }
}
