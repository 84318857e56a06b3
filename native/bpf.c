/* Classic BPF (McCanne and Jacobson: The BSD packet filter, USENIX Winter 1993): a checker, and an interpreter that may
 * then trust the program. Both follow what libpcap's own do on a file. */
#include <arpa/inet.h>
#include <linux/filter.h>

#include "frames.h"

/* From here on, the kernel means other things than bytes of the frame, which a file does not have. */
#define ANCILLARY ((uint32_t)SKF_AD_OFF)
enum { WORD_BITS = 32 };

/* ---- checking ---- */

static bool arithmetic_is_sound(const struct lab_instruction *each) {
    bool constant = BPF_SRC(each->code) == BPF_K;
    switch (BPF_OP(each->code)) {
    case BPF_ADD: case BPF_SUB: case BPF_MUL: case BPF_OR: case BPF_AND: case BPF_XOR: return true;
    case BPF_DIV: case BPF_MOD: return !constant || each->k;
    case BPF_LSH: case BPF_RSH: return !constant || each->k < WORD_BITS;
    case BPF_NEG: return constant;
    default: return false;
    }
}

/* `left`: instructions behind this one. */
static bool jump_is_sound(const struct lab_instruction *each, int64_t left) {
    switch (BPF_OP(each->code)) {
    case BPF_JA: return BPF_SRC(each->code) == BPF_K && each->k < left;
    case BPF_JEQ: case BPF_JGT: case BPF_JGE: case BPF_JSET: return each->if_true < left && each->if_false < left;
    default: return false;
    }
}

static bool is_sound(const struct lab_instruction *each, int64_t left) {
    if (each->code > UINT8_MAX) return false;
    switch (BPF_CLASS(each->code)) {
    case BPF_ALU: return arithmetic_is_sound(each);
    case BPF_JMP: return jump_is_sound(each, left);
    }
    switch (each->code) {
    case BPF_LD | BPF_W | BPF_ABS: case BPF_LD | BPF_H | BPF_ABS: case BPF_LD | BPF_B | BPF_ABS:
        return each->k < ANCILLARY;
    case BPF_LD | BPF_W | BPF_IND: case BPF_LD | BPF_H | BPF_IND: case BPF_LD | BPF_B | BPF_IND:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_LD | BPF_IMM: case BPF_LDX | BPF_IMM:
    case BPF_LD | BPF_W | BPF_LEN: case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_RET | BPF_K: case BPF_RET | BPF_A:
    case BPF_MISC | BPF_TAX: case BPF_MISC | BPF_TXA: return true;
    case BPF_LD | BPF_MEM: case BPF_LDX | BPF_MEM: case BPF_ST: case BPF_STX: return each->k < BPF_MEMWORDS;
    default: return false;
    }
}

/* All jumps lead forward, and the last instruction returns: so every way through it ends. */
int64_t lab_filter_check(const struct lab_instruction *program, int64_t length) {
    if (length < 1 || length > LAB_MAX_PROGRAM) return -EINVAL;
    for (int64_t i = 0; i < length; i++)
        if (!is_sound(&program[i], length - 1 - i)) return -EINVAL;
    return BPF_CLASS(program[length - 1].code) == BPF_RET ? 0 : -EINVAL;
}

/* ---- running ---- */

/* A frame, and what a program can change. */
struct machine {
    const unsigned char *frame;
    uint64_t captured;
    uint32_t length;
    uint32_t a, x;
    uint32_t memory[BPF_MEMWORDS];
};

/* Loads into A. False: not all of it is there. */
static bool load(struct machine *m, uint16_t size, uint64_t at) {
    uint32_t word;
    uint16_t half;
    switch (size) {
    case BPF_W:
        if (at + sizeof word > m->captured) return false;
        memcpy(&word, m->frame + at, sizeof word);
        m->a = ntohl(word);
        return true;
    case BPF_H:
        if (at + sizeof half > m->captured) return false;
        memcpy(&half, m->frame + at, sizeof half);
        m->a = ntohs(half);
        return true;
    default:
        if (at >= m->captured) return false;
        m->a = m->frame[at];
        return true;
    }
}

/* False: division by zero. */
static bool compute(struct machine *m, uint16_t operation, uint32_t by) {
    switch (operation) {
    case BPF_ADD: m->a += by; return true;
    case BPF_SUB: m->a -= by; return true;
    case BPF_MUL: m->a *= by; return true;
    case BPF_OR: m->a |= by; return true;
    case BPF_AND: m->a &= by; return true;
    case BPF_XOR: m->a ^= by; return true;
    case BPF_LSH: m->a = by < WORD_BITS ? m->a << by : 0; return true;
    case BPF_RSH: m->a = by < WORD_BITS ? m->a >> by : 0; return true;
    case BPF_NEG: m->a = -m->a; return true;
    case BPF_DIV: return by && (m->a /= by, true);
    default: return by && (m->a %= by, true);
    }
}

static bool compare(uint16_t operation, uint32_t a, uint32_t with) {
    switch (operation) {
    case BPF_JEQ: return a == with;
    case BPF_JGT: return a > with;
    case BPF_JGE: return a >= with;
    default: return a & with;
    }
}

int64_t lab_filter_run(const struct lab_instruction *program, const unsigned char *frame, int64_t captured,
                       int64_t length) {
    struct machine m = {.frame = frame, .captured = (uint64_t)captured, .length = (uint32_t)length};
    for (const struct lab_instruction *each = program;; each++) {
        uint32_t operand = BPF_SRC(each->code) == BPF_X ? m.x : each->k;
        switch (BPF_CLASS(each->code)) {
        case BPF_ALU:
            if (!compute(&m, BPF_OP(each->code), operand)) return 0;
            continue;
        case BPF_JMP:
            if (BPF_OP(each->code) == BPF_JA) each += each->k;
            else each += compare(BPF_OP(each->code), m.a, operand) ? each->if_true : each->if_false;
            continue;
        case BPF_RET: return BPF_RVAL(each->code) == BPF_A ? m.a : each->k;
        case BPF_ST: m.memory[each->k] = m.a; continue;
        case BPF_STX: m.memory[each->k] = m.x; continue;
        case BPF_MISC:
            if (BPF_MISCOP(each->code) == BPF_TAX) m.x = m.a;
            else m.a = m.x;
            continue;
        }
        uint32_t *to = BPF_CLASS(each->code) == BPF_LD ? &m.a : &m.x;
        switch (BPF_MODE(each->code)) {
        case BPF_IMM: *to = each->k; break;
        case BPF_LEN: *to = m.length; break;
        case BPF_MEM: *to = m.memory[each->k]; break;
        case BPF_MSH: /* four times the low half of a byte: IPv4's header length */
            if (each->k >= m.captured) return 0;
            m.x = (frame[each->k] & 0xfU) << 2;
            break;
        default: /* BPF_ABS, BPF_IND; in 64 bits, so that no sum wraps around */
            if (!load(&m, BPF_SIZE(each->code), (BPF_MODE(each->code) == BPF_IND ? (uint64_t)m.x : 0) + each->k)) return 0;
        }
    }
}
