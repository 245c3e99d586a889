//! Authentication plugins, identified by a fixed list of names: no text of a peer becomes a label.

use crate::labels::labels;

/// First byte of `Protocol::AuthMoreData`.
pub const AUTH_MORE_DATA: u8 = 0x01;
/// First byte of `Protocol::AuthNextFactor`.
pub const AUTH_NEXT_FACTOR: u8 = 0x02;
/// caching_sha2_password's `perform_full_authentication`, in such a packet.
pub const FULL_AUTHENTICATION: u8 = 0x04;

labels! {
    /// A client-side authentication plugin.
    AuthPlugin {
        /// SHA-1 challenge and response.
        NativePassword = "mysql_native_password",
        /// The hash of MySQL before 4.1.
        OldPassword = "mysql_old_password",
        /// SHA-256 with a cache in the server.
        CachingSha2Password = "caching_sha2_password",
        /// SHA-256 without a cache.
        Sha256Password = "sha256_password",
        /// The password itself.
        ClearPassword = "mysql_clear_password",
        /// MariaDB: Ed25519.
        Ed25519 = "client_ed25519",
        /// MariaDB: PARSEC.
        Parsec = "parsec",
        /// MariaDB: PAM.
        Dialog = "dialog",
        /// MariaDB: GSSAPI.
        Gssapi = "auth_gssapi_client",
        /// MySQL: LDAP over SASL.
        LdapSasl = "authentication_ldap_sasl_client",
        /// MySQL: Kerberos.
        Kerberos = "authentication_kerberos_client",
        /// MySQL: WebAuthn.
        Webauthn = "authentication_webauthn_client",
        /// MySQL: FIDO.
        Fido = "authentication_fido_client",
        /// MySQL: OpenID Connect.
        OpenidConnect = "authentication_openid_connect_client",
        /// MySQL: Oracle Cloud.
        Oci = "authentication_oci_client",
        /// A name that is not in this list.
        Other = "other",
        /// No plugin was named.
        None = "none",
    }
}

impl AuthPlugin {
    /// The plugin of this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        if name.is_empty() {
            return Self::None;
        }
        let known = Self::ALL.iter().find(|plugin| plugin.label().as_bytes() == name);
        known.copied().unwrap_or(Self::Other)
    }
}
