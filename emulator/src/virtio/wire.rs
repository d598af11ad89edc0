// TEMPORARY
pub const REQUEST_HEADER_BYTES: usize = 24;
pub const RESPONSE_HEADER_BYTES: usize = 16;
pub const EVENT_BYTES: usize = 48;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    Malformed,
    TooLong,
    NoRoom,
    ScopeDenied,
    BadUid,
    Busy,
    Reset,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    pub status: Status,
    pub out_len: u32,
}
impl ResponseHeader {
    pub fn to_bytes(&self) -> [u8; RESPONSE_HEADER_BYTES] {
        let mut b = [0; 16];
        b[0] = self.status as u8;
        b[4..8].copy_from_slice(&self.out_len.to_le_bytes());
        b
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub scope: u8,
    pub uid: u16,
    pub in_len: u32,
    pub out_len: u32,
}
impl RequestHeader {
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b = b.get(..24)?;
        Some(Self {
            scope: b[0],
            uid: u16::from_le_bytes([b[2], b[3]]),
            in_len: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            out_len: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
        })
    }
}
impl ResponseHeader {
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b = b.get(..16)?;
        let status = match b[0] {
            0 => Status::Ok,
            1 => Status::Malformed,
            2 => Status::TooLong,
            3 => Status::NoRoom,
            4 => Status::ScopeDenied,
            5 => Status::BadUid,
            6 => Status::Busy,
            7 => Status::Reset,
            _ => return None,
        };
        Some(Self {
            status,
            out_len: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        })
    }
}
impl RequestHeader {
    pub fn to_bytes(&self) -> [u8; 24] {
        let mut b = [0; 24];
        b[0] = self.scope;
        b[2..4].copy_from_slice(&self.uid.to_le_bytes());
        b[4..8].copy_from_slice(&self.in_len.to_le_bytes());
        b[8..12].copy_from_slice(&self.out_len.to_le_bytes());
        b
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event { pub sequence: u64, pub overflow: bool, pub event_type: u8, pub sub_type: u8, pub data: [u8; 28] }
impl Event { pub fn to_bytes(&self) -> [u8; EVENT_BYTES] { let mut b=[0;48]; b[..8].copy_from_slice(&self.sequence.to_le_bytes()); b[8]=self.overflow as u8; b[9]=self.event_type; b[10]=self.sub_type; b[16..44].copy_from_slice(&self.data); b }
 pub fn from_bytes(b: &[u8; EVENT_BYTES]) -> Self { let mut data=[0;28]; data.copy_from_slice(&b[16..44]); let mut s=[0;8]; s.copy_from_slice(&b[..8]); Self{sequence:u64::from_le_bytes(s), overflow:b[8]!=0,event_type:b[9],sub_type:b[10],data} } }
