//! The keys that tokens may be signed with.

use jsonwebtoken::{
    Algorithm as Jwa, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};

use crate::config::{Algorithm, Key};

/// Every algorithm that a key can have.
pub(super) const ALGORITHMS: [Jwa; 12] = [
    Jwa::HS256,
    Jwa::HS384,
    Jwa::HS512,
    Jwa::RS256,
    Jwa::RS384,
    Jwa::RS512,
    Jwa::PS256,
    Jwa::PS384,
    Jwa::PS512,
    Jwa::ES256,
    Jwa::ES384,
    Jwa::EdDSA,
];

/// Whether one secret both signs and verifies.
pub(super) fn is_symmetric(algorithm: Jwa) -> bool {
    matches!(algorithm, Jwa::HS256 | Jwa::HS384 | Jwa::HS512)
}

/// A key with the one algorithm that it is used with, whatever a token says.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Jwa,
    pub(super) key: DecodingKey,
}

impl VerifyingKey {
    /// The key of the configuration.
    pub(super) fn configured(key: &Key) -> Result<Self, jsonwebtoken::errors::Error> {
        let algorithm = jwa(key.algorithm);
        let material = key.material.reveal().as_bytes();
        let decoding = match key.algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                DecodingKey::from_secret(material)
            }
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(material)?,
            Algorithm::EdDSA => DecodingKey::from_ed_pem(material)?,
            _ => DecodingKey::from_rsa_pem(material)?,
        };
        Ok(Self { kid: key.kid.clone(), algorithm, key: decoding })
    }

    /// A key of a fetched set; `None` for those that are not for verifying tokens. Secrets are
    /// among these: what is published is no secret.
    pub(super) fn fetched(jwk: &Jwk) -> Option<Self> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = published_algorithm(jwk)?;
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { kid: jwk.common.key_id.clone(), algorithm, key })
    }

    /// Whether a token that says this of itself may be signed with the key.
    pub(super) fn may_sign(&self, algorithm: Jwa, kid: Option<&str>) -> bool {
        self.algorithm == algorithm
            && match (self.kid.as_deref(), kid) {
                (Some(own), Some(wanted)) => own == wanted,
                _ => true,
            }
    }
}

/// The algorithm of a fetched key: what it says, if that fits its type, else the usual one.
fn published_algorithm(jwk: &Jwk) -> Option<Jwa> {
    let said = jwk.common.key_algorithm;
    let fitting: &[(KeyAlgorithm, Jwa)] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            (KeyAlgorithm::RS256, Jwa::RS256),
            (KeyAlgorithm::RS384, Jwa::RS384),
            (KeyAlgorithm::RS512, Jwa::RS512),
            (KeyAlgorithm::PS256, Jwa::PS256),
            (KeyAlgorithm::PS384, Jwa::PS384),
            (KeyAlgorithm::PS512, Jwa::PS512),
        ],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            &[(KeyAlgorithm::ES256, Jwa::ES256)]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            &[(KeyAlgorithm::ES384, Jwa::ES384)]
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            &[(KeyAlgorithm::EdDSA, Jwa::EdDSA)]
        }
        _ => return None,
    };
    match said {
        None => fitting.first().map(|(_, algorithm)| *algorithm),
        Some(said) => fitting.iter().find(|(name, _)| *name == said).map(|(_, found)| *found),
    }
}

/// The library's name of an algorithm.
pub(super) fn jwa(algorithm: Algorithm) -> Jwa {
    match algorithm {
        Algorithm::HS256 => Jwa::HS256,
        Algorithm::HS384 => Jwa::HS384,
        Algorithm::HS512 => Jwa::HS512,
        Algorithm::RS256 => Jwa::RS256,
        Algorithm::RS384 => Jwa::RS384,
        Algorithm::RS512 => Jwa::RS512,
        Algorithm::PS256 => Jwa::PS256,
        Algorithm::PS384 => Jwa::PS384,
        Algorithm::PS512 => Jwa::PS512,
        Algorithm::ES256 => Jwa::ES256,
        Algorithm::ES384 => Jwa::ES384,
        Algorithm::EdDSA => Jwa::EdDSA,
    }
}
