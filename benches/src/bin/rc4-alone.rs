//! What the `rc4` crate alone takes for bytes that go from one end of a transfer to the other: enciphered from where they lie into
//! a buffer at one, deciphered in place at the other. For `encryption.py`: `rc4-alone BYTES`.

use rc4::{KeyInit, Rc4, StreamCipher};

const BUFFER_LEN: usize = 64 * 1024;

fn main() {
    let bytes = std::env::args().nth(1).and_then(|arg| arg.parse::<usize>().ok());
    let Some(bytes) = bytes else {
        eprintln!("usage: rc4-alone BYTES");
        std::process::exit(2);
    };
    let cipher = || Rc4::new_from_slice(b"a key of twenty byte").expect("a key");
    let (mut encipher, mut decipher) = (cipher(), cipher());
    let (payload, mut buffer) = (vec![0x5a; BUFFER_LEN], vec![0; BUFFER_LEN]);
    for at in (0..bytes).step_by(BUFFER_LEN) {
        let len = BUFFER_LEN.min(bytes - at);
        encipher.apply_keystream_b2b(&payload[..len], &mut buffer[..len]);
        decipher.apply_keystream(&mut buffer[..len]);
    }
    assert!(buffer.iter().all(|&byte| byte == 0x5a) || bytes < BUFFER_LEN);
}
