//! A sandbox's keys: a certificate of its own authority, and tokens.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nekton_engine::{Error, Kind, Result};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// The role that may do everything.
pub(super) const ADMIN: &str = "admin";

/// What a sandbox has of keys. They are made once and stay in its folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Security {
    tls: Option<Tls>,
    token: Option<Token>,
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Clone, Debug)]
struct Token {
    key_file: PathBuf,
    key: hmac::Key,
    /// Where the token of [`ADMIN`] is.
    of_admin: PathBuf,
}

impl Security {
    /// The keys that are asked for, made where they are not there yet.
    pub(super) fn prepared(folder: &Path, tls: bool, token: bool) -> Result<Self> {
        let own = own(folder);
        if tls && !(Tls::at(&own).ca.is_file() && Tls::at(&own).key.is_file()) {
            Tls::at(&own).make()?;
        }
        if token && !key_file(&own).is_file() {
            let mut secret = [0; 32];
            SystemRandom::new()
                .fill(&mut secret)
                .map_err(|_| Error::new(Kind::Io, "the system gave no random bytes for a key"))?;
            write_secret(&key_file(&own), &secret)?;
        }
        let security = Self::read(folder, tls, token)?;
        if let Some(token) = &security.token {
            write_secret(&token.of_admin, token.issue(ADMIN).as_bytes())?;
        }
        Ok(security)
    }

    /// The keys of a sandbox that was started before.
    pub(super) fn read(folder: &Path, tls: bool, token: bool) -> Result<Self> {
        let own = own(folder);
        let token = if token { Some(Token::read(key_file(&own), token_file(&own))?) } else { None };
        Ok(Security { tls: tls.then(|| Tls::at(&own)), token })
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn ca(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca.as_path())
    }

    pub(super) fn token_key(&self) -> Option<&Path> {
        self.token.as_ref().map(|token| token.key_file.as_path())
    }

    pub(super) fn admin_token(&self) -> Option<&Path> {
        self.token.as_ref().map(|token| token.of_admin.as_path())
    }

    pub(super) fn token_for(&self, role: &str) -> Option<String> {
        self.token.as_ref().map(|token| token.issue(role))
    }
}

fn own(folder: &Path) -> PathBuf {
    folder.join("security")
}

fn key_file(own: &Path) -> PathBuf {
    own.join("token.key")
}

fn token_file(own: &Path) -> PathBuf {
    own.join("admin.token")
}

impl Tls {
    fn at(own: &Path) -> Self {
        Tls { ca: own.join("ca.pem"), certificate: own.join("server.pem"), key: own.join("server-key.pem") }
    }

    fn make(&self) -> Result<()> {
        let failed = |error| Error::new(Kind::Internal, format!("making the sandbox's certificate: {error}"));
        let (ca, server, key) = certificates().map_err(failed)?;
        write_secret(&self.certificate, server.as_bytes())?;
        write_secret(&self.key, key.as_bytes())?;
        // Last, since its being there says that all are.
        write_secret(&self.ca, ca.as_bytes())
    }
}

/// An authority's certificate, one that it gave to this machine's loopback addresses, and the latter's key, as PEM.
fn certificates() -> Result<(String, String, String), rcgen::Error> {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
    use rcgen::{KeyPair, KeyUsagePurpose};
    let named = |params: &mut CertificateParams, name: &str| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
    };
    let mut authority = CertificateParams::default();
    named(&mut authority, "nekton sandbox authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
    named(&mut server, "localhost");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok((
        pem("CERTIFICATE", ca.der()),
        pem("CERTIFICATE", certificate.der()),
        pem("PRIVATE KEY", &key.serialize_der()),
    ))
}

/// Textual encoding of keys and certificates (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

impl Token {
    fn read(key_file: PathBuf, of_admin: PathBuf) -> Result<Self> {
        let secret = std::fs::read(&key_file)
            .map_err(|error| Error::io(format!("reading the tokens' key {}", key_file.display()), &error))?;
        Ok(Token { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), key_file, of_admin })
    }

    /// A JSON Web Token (RFC 7519) with the role as its subject, signed with HS256; it does not expire.
    fn issue(&self, role: &str) -> String {
        let subject = serde_json::json!({ "sub": role }).to_string();
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(subject));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("writing {}", path.display()), &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_only_if_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let none = Security::prepared(folder.path(), false, false).unwrap();
        assert_eq!((none.ca(), none.token_for("admin")), (None, None));
        assert!(!own(folder.path()).exists());

        let made = Security::prepared(folder.path(), true, true).unwrap();
        let token = made.token_for("admin").unwrap();
        assert_ne!(token, made.token_for("guest").unwrap());
        let ca = std::fs::read(made.ca().unwrap()).unwrap();
        assert!(ca.starts_with(b"-----BEGIN CERTIFICATE-----"));
        let key = std::fs::read(&made.tls().unwrap().key).unwrap();
        assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"), "PKCS 8, as Pulsar wants it");

        let again = Security::prepared(folder.path(), true, true).unwrap();
        assert_eq!(again.token_for("admin").unwrap(), token);
        assert_eq!(std::fs::read(again.ca().unwrap()).unwrap(), ca);
    }

    #[test]
    #[cfg(unix)]
    fn secrets_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let made = Security::prepared(folder.path(), true, true).unwrap();
        for file in [made.token_key().unwrap(), &made.tls().unwrap().key] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    /// The signature was made with Python's hmac.
    #[test]
    fn a_token_is_an_hs256_jwt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, b"0123456789abcdef0123456789abcdef").unwrap();
        let token = Token::read(file, "unused".into()).unwrap().issue("admin");
        assert_eq!(
            token,
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.0bxzb1SDWhnB92NzINxpHEYH5S-sdhp-eIIKOtGDgyg"
        );
    }
}
