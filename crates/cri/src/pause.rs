//! The program that holds a sandbox's namespaces open, and its image. Both are carried by this binary, so that the
//! first pod of a machine without a registry can start.
//!
//! The program is a few machine instructions in an ELF file of about 230 bytes. It waits for signals: at SIGCHLD it
//! reaps every child that has ended (it is the first process of a shared PID namespace), at SIGTERM or SIGINT it ends.

use bytes::Bytes;

use crate::archive::{self, Archive};

/// The name of the sandbox image. The host part is no real host: nobody can publish another image under it. The tag
/// changes whenever the program does.
pub const IMAGE: &str = "localhost/pintle/pause:1";

/// SIGINT, SIGTERM and SIGCHLD as a kernel signal set.
const SIGNALS: u64 = 1 << (2 - 1) | 1 << (15 - 1) | 1 << (17 - 1);

/// x86-64: system call number in `eax`, arguments in `rdi`, `rsi`, `rdx`, `r10`.
const X86_64: [u8; 0x64] = [
    0x31, 0xff, // 00 xor edi, edi            SIG_BLOCK
    0x48, 0x8d, 0x35, 0x5b, 0, 0, 0, // 02 lea rsi, [rip + signals]
    0x31, 0xd2, // 09 xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // 0b mov r10d, 8
    0xb8, 14, 0, 0, 0, // 11 mov eax, rt_sigprocmask
    0x0f, 0x05, // 16 syscall
    0x48, 0x8d, 0x3d, 0x45, 0, 0, 0, // 18 wait: lea rdi, [rip + signals]
    0x31, 0xf6, // 1f xor esi, esi
    0x31, 0xd2, // 21 xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // 23 mov r10d, 8
    0xb8, 128, 0, 0, 0, // 29 mov eax, rt_sigtimedwait
    0x0f, 0x05, // 2e syscall
    0x83, 0xf8, 2, // 30 cmp eax, SIGINT
    0x74, 0x24, // 33 je exit
    0x83, 0xf8, 15, // 35 cmp eax, SIGTERM
    0x74, 0x1f, // 38 je exit
    0x83, 0xf8, 17, // 3a cmp eax, SIGCHLD
    0x75, 0xd9, // 3d jne wait
    0x6a, 0xff, // 3f reap: push -1
    0x5f, // 41 pop rdi
    0x31, 0xf6, // 42 xor esi, esi
    0xba, 1, 0, 0, 0, // 44 mov edx, WNOHANG
    0x4d, 0x31, 0xd2, // 49 xor r10, r10
    0xb8, 61, 0, 0, 0, // 4c mov eax, wait4
    0x0f, 0x05, // 51 syscall
    0x85, 0xc0, // 53 test eax, eax
    0x7f, 0xe8, // 55 jg reap
    0xeb, 0xbf, // 57 jmp wait
    0x31, 0xff, // 59 exit: xor edi, edi
    0xb8, 231, 0, 0, 0, // 5b mov eax, exit_group
    0x0f, 0x05, // 60 syscall
    0x0f, 0x0b, // 62 ud2
];

/// AArch64: system call number in `x8`, arguments in `x0` to `x3`.
const AARCH64: [u32; 30] = [
    mov(0, 0), // SIG_BLOCK
    adr(1, 29),
    mov(2, 0),
    mov(3, 8),
    mov(8, 135), // rt_sigprocmask
    SVC,
    adr(0, 24), // 6 wait
    mov(1, 0),
    mov(2, 0),
    mov(3, 8),
    mov(8, 137), // rt_sigtimedwait
    SVC,
    cmp(2), // SIGINT
    branch_if(EQ, 14),
    cmp(15), // SIGTERM
    branch_if(EQ, 12),
    cmp(17), // SIGCHLD
    branch_if(NE, -11),
    MOV_X0_MINUS_1, // 18 reap
    mov(1, 0),
    mov(2, 1), // WNOHANG
    mov(3, 0),
    mov(8, 260), // wait4
    SVC,
    cmp(0),
    branch_if(GT, -7),
    branch(-20),
    mov(0, 0),  // 27 exit
    mov(8, 94), // exit_group
    SVC,
];

const SVC: u32 = 0xd400_0001;
const MOV_X0_MINUS_1: u32 = 0x9280_0000;
const EQ: u32 = 0;
const NE: u32 = 1;
const GT: u32 = 12;

/// `movz x<register>, #value`
const fn mov(register: u32, value: u32) -> u32 {
    0xd280_0000 | value << 5 | register
}

/// `adr x<register>, .+4*words`
const fn adr(register: u32, words: u32) -> u32 {
    0x1000_0000 | words << 5 | register
}

/// `cmp w0, #value`
const fn cmp(value: u32) -> u32 {
    0x7100_001f | value << 10
}

/// `b.<condition> .+4*words`
const fn branch_if(condition: u32, words: i32) -> u32 {
    0x5400_0000 | (words as u32 & 0x7_ffff) << 5 | condition
}

/// `b .+4*words`
const fn branch(words: i32) -> u32 {
    0x1400_0000 | (words as u32 & 0x3ff_ffff)
}

/// Where the file is mapped.
const ADDRESS: u64 = 0x40_0000;
/// The ELF header and one program header.
const HEADERS_LEN: u16 = 64 + 56;

/// The program as an executable file, `None` on a processor it was not written for.
pub fn program(architecture: &str) -> Option<Vec<u8>> {
    let (machine, code): (u16, Vec<u8>) = match architecture {
        "x86_64" => (62, X86_64.to_vec()),
        "aarch64" => (183, AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect()),
        _ => return None,
    };
    let len = u64::from(HEADERS_LEN) + code.len() as u64 + 8;
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // 64 bit, little endian
    file.extend(2u16.to_le_bytes()); // an executable
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend((ADDRESS + u64::from(HEADERS_LEN)).to_le_bytes()); // where it starts
    file.extend(64u64.to_le_bytes()); // where the program headers are
    file.extend(0u64.to_le_bytes()); // no sections
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // to be loaded,
    file.extend(5u32.to_le_bytes()); // to be read and executed
    for word in [0, ADDRESS, ADDRESS, len, len, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(SIGNALS.to_le_bytes());
    Some(file)
}

/// The image as an archive to import, `None` on a processor the program was not written for.
pub fn image() -> Option<Bytes> {
    let mut layer = tar::Builder::new(Vec::new());
    archive::append(&mut layer, "pause", &program(std::env::consts::ARCH)?, 0o755);
    let config = serde_json::json!({ "Entrypoint": ["/pause"], "User": "65535:65535" });
    Some(Archive::single(IMAGE, archive::finish(layer), &config).write().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_reads_as_what_it_is_called() {
        assert_eq!(Archive::read(image().unwrap(), "").unwrap().names(), [IMAGE]);
    }
}
