/// Why a peer's byte stream cannot go on. The connection is closed with [`WsError::close_code`];
/// the text is fit to be sent as the close reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// RSV1, RSV2 or RSV3 is set where no extension was negotiated that gives it a meaning (§5.2).
    #[error("reserved bit set without a negotiated extension")]
    ReservedBits,
    /// The opcode is one of 0x3–0x7 or 0xB–0xF (§5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A control frame without FIN (§5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload (§5.5).
    #[error("control frame longer than 125 bytes")]
    OversizedControl,
    /// A continuation frame where no message has begun (§5.4).
    #[error("continuation frame without a message")]
    UnexpectedContinuation,
    /// A text or binary frame inside a fragmented message (§5.4).
    #[error("new message inside a fragmented one")]
    InterruptedMessage,
    /// A client sent an unmasked frame (§5.1).
    #[error("client frame is not masked")]
    Unmasked,
    /// A server sent a masked frame (§5.1).
    #[error("server frame is masked")]
    Masked,
    /// The payload length is not in its shortest form (§5.2).
    #[error("payload length is not minimally encoded")]
    NonMinimalLength,
    /// The most significant bit of a 64-bit payload length is set (§5.2).
    #[error("payload length has its highest bit set")]
    LengthOverflow,
    /// A close frame with a payload of one byte: too short for a code (§5.5.1).
    #[error("close frame with half a code")]
    CloseLength,
    /// A close code that must not be on the wire (§7.4).
    #[error("invalid close code {0}")]
    CloseCode(u16),
    /// A text message or a close reason that is not UTF-8 (§8.1).
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A message that is, or declares to become, longer than the limit, compressed or inflated.
    #[error("message exceeds {limit} bytes")]
    TooBig {
        /// The limit in force, in bytes of payload.
        limit: usize,
    },
    /// A message in more fragments than its size can justify.
    #[error("too many fragments")]
    TooManyFragments,
    /// A compressed message that is not DEFLATE, or not all of it (RFC 7692 §7.2.2).
    #[error("compressed message cannot be inflated")]
    CorruptDeflate,
}

impl WsError {
    /// The close code to answer with (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::TooBig { .. } => 1009,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::Unmasked
            | Self::Masked
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::CloseLength
            | Self::CloseCode(_)
            | Self::CorruptDeflate => 1002,
        }
    }
}
