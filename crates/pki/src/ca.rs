//! A certificate authority: signs what its cluster asks for.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::Timestamp;
use der::asn1::{Any, BitString, GeneralizedTime, Ia5String, OctetString};
use der::flagset::FlagSet;
use der::{Decode, Encode, Tag};
use spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::TbsCertificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use zeroize::Zeroizing;

use crate::certificate::{COMMON_NAME, Certificate, ORGANIZATION, spki_hash_of};
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::file;
use crate::identity::Identity;
use crate::key::{PrivateKey, random_bytes, sha256};
use crate::usage::{Usage, Usages};

/// Certificates begin this long before they are made, for peers whose clock is behind (upstream's signer's backdate).
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Pods' certificates begin less long before: the API takes none that began more than five minutes ago.
pub const POD_BACKDATE: Duration = Duration::from_secs(150);
/// Those we make for ourselves begin by this part of their life before at most: else a short one would be near its end
/// when it is made.
const BACKDATE_PART: u32 = 12;

/// What a new certificate shall say.
#[derive(Debug, Clone)]
pub struct Request {
    /// `CN`: the user's name, or a server's.
    pub common_name: String,
    /// `O`, repeated: the user's groups.
    pub organizations: Vec<String>,
    /// DNS names a server answers to.
    pub dns_names: Vec<String>,
    /// Addresses a server answers at.
    pub ip_addresses: Vec<IpAddr>,
    /// Which side of TLS it is for.
    pub usage: Usage,
    /// How long from now it is valid; cut at the CA's own end.
    pub valid: Duration,
}

impl Request {
    /// A client's certificate: a user and its groups.
    pub fn client(user: &str, groups: &[&str], valid: Duration) -> Self {
        Self {
            common_name: user.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usage: Usage::Client,
            valid,
        }
    }
}

/// What a signer allows a certificate to be used for, and how long.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Key usages of the certificate.
    pub usages: Usages,
    /// How long from now it is valid; cut at the CA's own end.
    pub valid: Duration,
}

/// A certificate authority with its key. Cheap to clone.
#[derive(Clone)]
pub struct Ca(Arc<Inner>);

struct Inner {
    cert_pem: String,
    certificate: Certificate,
    key: PrivateKey,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ca").field(&self.0.certificate.common_name).finish()
    }
}

impl Ca {
    /// A new self-signed CA that may sign end entities only.
    ///
    /// # Errors
    /// [`Error::Crypto`]; [`Error::Malformed`] when the name or the dates cannot be encoded.
    pub fn generate(common_name: &str, now: Timestamp, valid: Duration) -> Result<Self> {
        Self::self_sign(PrivateKey::generate()?, common_name, now, valid)
    }

    /// A self-signed CA for a key that exists.
    ///
    /// # Errors
    /// As [`Ca::generate`].
    pub fn self_sign(key: PrivateKey, common_name: &str, now: Timestamp, valid: Duration) -> Result<Self> {
        Self::self_sign_as(key, name(common_name, &[])?, now, valid)
    }

    /// This CA with a new certificate for the same key and name: it vouches for everything signed before.
    ///
    /// # Errors
    /// As [`Ca::generate`].
    pub fn renewed(&self, now: Timestamp, valid: Duration) -> Result<Self> {
        Self::self_sign_as(self.0.key.clone(), self.0.certificate.subject.clone(), now, valid)
    }

    /// Another CA, with a key of its own, that bears the name of this one.
    ///
    /// # Errors
    /// As [`Ca::generate`].
    pub fn successor(&self, now: Timestamp, valid: Duration) -> Result<Self> {
        Self::self_sign_as(PrivateKey::generate()?, self.0.certificate.subject.clone(), now, valid)
    }

    fn self_sign_as(key: PrivateKey, subject: Name, now: Timestamp, valid: Duration) -> Result<Self> {
        let key_id = key_id(key.public_key().as_der());
        let ca_bits = KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        let extensions = extensions(&subject, Some(0), ca_bits, &[], &key_id, &key_id, Vec::new())?;
        let spki = owned_spki(key.public_key().as_der())?;
        let life = Life { now, backdate: backdate(valid), valid };
        let validity = life.until(life.end()?)?;
        Self::new(pem_of(&sign(&key, subject.clone(), subject, spki, validity, extensions)?), key)
    }

    /// From PEM text, such as a CA that was made elsewhere.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Refused`] when the certificate is no CA's or the key is not its key.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        Self::new(cert_pem.to_owned(), PrivateKey::from_pem(key_pem)?)
    }

    fn new(cert_pem: String, key: PrivateKey) -> Result<Self> {
        let certificate = Certificate::from_pem(&cert_pem)?;
        if !certificate.is_ca {
            return Err(Error::Refused(format!("{:?} is not a CA", certificate.common_name)));
        }
        if certificate.public_key_der != key.public_key().as_der() {
            let name = &certificate.common_name;
            return Err(Error::Refused(format!("the private key does not belong to the CA {name:?}")));
        }
        Ok(Self(Arc::new(Inner { cert_pem, certificate, key })))
    }

    /// Reads the two files.
    ///
    /// # Errors
    /// [`Error::File`], and as [`Ca::from_pem`].
    pub fn load(cert_path: &Path, key_path: &Path) -> Result<Self> {
        Self::new(file::read(cert_path)?, PrivateKey::from_pem(&Zeroizing::new(file::read(key_path)?))?)
    }

    /// Writes the two files, the key with mode 0600.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, cert_path: &Path, key_path: &Path) -> Result<()> {
        file::write_atomic(key_path, self.0.key.to_pem().as_bytes(), file::SECRET)?;
        file::write_atomic(cert_path, self.0.cert_pem.as_bytes(), file::PUBLIC)
    }

    /// The CA's certificate.
    pub fn cert_pem(&self) -> &str {
        &self.0.cert_pem
    }

    /// What the CA's certificate says.
    pub fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// The pin of this CA, as [`crate::spki_hash`].
    pub fn spki_hash(&self) -> String {
        spki_hash_of(&self.0.certificate)
    }

    /// A new key and a certificate for it.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a name cannot be encoded; [`Error::Refused`] when the CA has expired.
    pub fn issue(&self, request: &Request, now: Timestamp) -> Result<Identity> {
        let key = PrivateKey::generate()?;
        let subject = name(&request.common_name, &request.organizations)?;
        let mut names = Vec::new();
        for dns_name in &request.dns_names {
            let dns_name = Ia5String::new(dns_name).map_err(|e| Error::malformed("DNS name", e))?;
            names.push(GeneralName::DnsName(dns_name));
        }
        names.extend(request.ip_addresses.iter().map(|address| GeneralName::from(*address)));
        let spki = owned_spki(key.public_key().as_der())?;
        let life = Life { now, backdate: backdate(request.valid), valid: request.valid };
        let cert_pem = self.certify(subject, spki, names, &request.usage.into(), life)?;
        Identity::new(&cert_pem, &key)
    }

    /// A certificate for a request whose signature holds, with its subject and alternative names; the usages and the
    /// life are the profile's. Whether the requester may have those names is the caller's to decide ([`Csr`]).
    ///
    /// # Errors
    /// [`Error::Malformed`] when `csr_pem` is no request; [`Error::Refused`] when it is not signed by its own key, or
    /// the CA has expired.
    pub fn sign_csr(&self, csr_pem: &str, profile: &Profile, now: Timestamp) -> Result<String> {
        let csr = Csr::from_pem(csr_pem)?;
        let life = Life { now, backdate: BACKDATE, valid: profile.valid };
        self.certify(csr.subject, csr.public_key, csr.alternative_names, &profile.usages, life)
    }

    /// A certificate for the key of a stub request, DER, whose signature holds; all it says is the signer's to decide.
    ///
    /// # Errors
    /// As [`Ca::sign_csr`]; [`Error::Malformed`] when the name cannot be encoded.
    pub fn sign_stub_request(
        &self,
        stub_request: &[u8],
        common_name: &str,
        profile: &Profile,
        now: Timestamp,
    ) -> Result<String> {
        let csr = Csr::from_der(stub_request)?;
        let life = Life { now, backdate: POD_BACKDATE, valid: profile.valid };
        self.certify(name(common_name, &[])?, csr.public_key, Vec::new(), &profile.usages, life)
    }

    fn certify(
        &self,
        subject: Name,
        spki: SubjectPublicKeyInfoOwned,
        names: Vec<GeneralName>,
        usages: &Usages,
        life: Life,
    ) -> Result<String> {
        let ca = &self.0.certificate;
        if life.now >= ca.not_after {
            return Err(Error::Refused(format!("the CA {:?} has expired at {}", ca.common_name, ca.not_after)));
        }
        let ca_id = ca.subject_key_id.clone().unwrap_or_else(|| key_id(&ca.public_key_der));
        let own_id = key_id(&spki.to_der().map_err(encoding)?);
        let extensions = extensions(&subject, None, usages.key, &usages.extended, &own_id, &ca_id, names)?;
        let validity = life.until(life.end()?.min(ca.not_after))?;
        Ok(pem_of(&sign(&self.0.key, ca.subject.clone(), subject, spki, validity, extensions)?))
    }
}

/// The CA that signs at the moment; another may take its place.
pub struct Issuer(ArcSwap<Ca>);

impl Issuer {
    /// Begins with `ca`.
    pub fn new(ca: Ca) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(ca)))
    }

    /// The CA that signs now.
    pub fn ca(&self) -> Ca {
        Ca::clone(&self.0.load())
    }

    /// `ca` signs from now on.
    pub fn replace(&self, ca: Ca) {
        self.0.store(Arc::new(ca));
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer").field(&self.0.load()).finish()
    }
}

fn encoding(error: impl ToString) -> Error {
    Error::malformed("certificate request", error)
}

fn pem_of(der: &[u8]) -> String {
    crate::pem::encode(crate::pem::CERTIFICATE, der)
}

fn owned_spki(der: &[u8]) -> Result<SubjectPublicKeyInfoOwned> {
    SubjectPublicKeyInfoOwned::from_der(der).map_err(encoding)
}

/// RFC 7093, method 1: the leftmost 160 bits of the SHA-256 of the key's bits.
fn key_id(spki_der: &[u8]) -> Vec<u8> {
    let bits = SubjectPublicKeyInfoRef::from_der(spki_der).ok().and_then(|spki| spki.subject_public_key.as_bytes());
    sha256(bits.unwrap_or(spki_der))[..20].to_vec()
}

/// A subject: every organization in its own set, then the common name.
pub(crate) fn name(common_name: &str, organizations: &[String]) -> Result<Name> {
    let mut sequence = RdnSequence::default();
    let organizations = organizations.iter().map(|organization| (ORGANIZATION, organization.as_str()));
    let common_name = (!common_name.is_empty()).then_some((COMMON_NAME, common_name));
    for (oid, value) in organizations.chain(common_name) {
        let value = Any::new(Tag::Utf8String, value.as_bytes()).map_err(encoding)?;
        let attribute = AttributeTypeAndValue { oid, value };
        sequence.push(RelativeDistinguishedName::try_from(vec![attribute]).map_err(encoding)?);
    }
    Name::from_der(&sequence.to_der().map_err(encoding)?).map_err(encoding)
}

fn backdate(valid: Duration) -> Duration {
    BACKDATE.min(valid / BACKDATE_PART)
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy)]
struct Life {
    now: Timestamp,
    backdate: Duration,
    valid: Duration,
}

impl Life {
    fn end(&self) -> Result<Timestamp> {
        self.now.checked_add(self.valid).map_err(encoding)
    }

    fn until(&self, not_after: Timestamp) -> Result<Validity> {
        let time = |at: Timestamp| {
            let since_epoch = Duration::from_secs(u64::try_from(at.as_second()).map_err(encoding)?);
            Ok::<_, Error>(Time::GeneralTime(GeneralizedTime::from_unix_duration(since_epoch).map_err(encoding)?))
        };
        Ok(Validity::new(time(self.now.checked_sub(self.backdate).map_err(encoding)?)?, time(not_after)?))
    }
}

/// The extensions of a certificate; `path_len` makes it a CA's.
fn extensions(
    subject: &Name,
    path_len: Option<u8>,
    key_usage: FlagSet<KeyUsages>,
    extended: &[der::asn1::ObjectIdentifier],
    own_id: &[u8],
    issuer_id: &[u8],
    names: Vec<GeneralName>,
) -> Result<Vec<Extension>> {
    let mut list = Vec::new();
    let own_id = SubjectKeyIdentifier(OctetString::new(own_id).map_err(encoding)?);
    let issuer_id = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(issuer_id).map_err(encoding)?),
        ..AuthorityKeyIdentifier::default()
    };
    let basic = BasicConstraints { ca: path_len.is_some(), path_len_constraint: path_len };
    list.push(basic.to_extension(subject, &list).map_err(encoding)?);
    if !key_usage.is_empty() {
        list.push(KeyUsage(key_usage).to_extension(subject, &list).map_err(encoding)?);
    }
    if !extended.is_empty() {
        list.push(ExtendedKeyUsage(extended.to_vec()).to_extension(subject, &list).map_err(encoding)?);
    }
    list.push(own_id.to_extension(subject, &list).map_err(encoding)?);
    list.push(issuer_id.to_extension(subject, &list).map_err(encoding)?);
    if !names.is_empty() {
        list.push(SubjectAltName(names).to_extension(subject, &list).map_err(encoding)?);
    }
    Ok(list)
}

/// A profile that has decided everything already.
struct Decided {
    issuer: Name,
    subject: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Decided {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

fn sign(
    key: &PrivateKey,
    issuer: Name,
    subject: Name,
    spki: SubjectPublicKeyInfoOwned,
    validity: Validity,
    extensions: Vec<Extension>,
) -> Result<Vec<u8>> {
    // 126 random bits, positive and without a leading zero byte (RFC 5280, 4.1.2.2).
    let mut serial = random_bytes::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let serial = SerialNumber::new(&serial).map_err(encoding)?;
    let decided = Decided { issuer, subject, extensions };
    let mut builder = CertificateBuilder::new(decided, serial, validity, spki).map_err(encoding)?;
    let message = builder.finalize(key).map_err(encoding)?;
    let signature = BitString::from_bytes(&key.sign_asn1(&message)?).map_err(encoding)?;
    builder.assemble(signature, key).map_err(encoding)?.to_der().map_err(encoding)
}

#[cfg(test)]
mod tests;
