/* Bytes of a request, and whose reply it is.
 *
 * A message is a payload (struct payload, then filler); ICMP puts its 8-byte header in front. Whatever can be done
 * once is done by message_prepare, so that numbering a request between two probes touches a few words only. */
#include "internal.h"

enum {
    ICMP_HEADER = 8,
    ECHO_REPLY_4 = 0,
    ECHO_REQUEST_4 = 8,
    ECHO_REQUEST_6 = 128,
    ECHO_REPLY_6 = 129,
    IP4_MIN_HEADER = 20,
    FILLER = 0x5a,
};

void message_prepare(struct message *message, const struct lab_stream *stream, unsigned char *bytes) {
    bool icmp = stream->kind == LAB_ICMP_RAW || stream->kind == LAB_ICMP_PING;
    bool raw4 = stream->kind == LAB_ICMP_RAW && stream->family == AF_INET;
    *message = (struct message){
        .bytes = bytes,
        .header = icmp ? ICMP_HEADER : 0,
        .length = (icmp ? ICMP_HEADER : 0) + (size_t)stream->size,
        .checksum = raw4,
        .ip_header = raw4,
        .stream = stream,
    };
    memset(bytes, FILLER, message->length);
    if (icmp) {
        memset(bytes, 0, ICMP_HEADER);
        bytes[0] = stream->family == AF_INET ? ECHO_REQUEST_4 : ECHO_REQUEST_6;
        put16(bytes + 4, stream->icmp_id);
    }
    struct payload head = {.nonce = stream->nonce};
    memcpy(bytes + message->header, &head, icmp ? LAB_MIN_PAYLOAD_ICMP : sizeof head);
    message->sum = sum16(bytes, message->length);
}

void message_number(struct message *message, uint64_t seq) {
    unsigned char *at = message->bytes + message->header + offsetof(struct payload, seq);
    memcpy(at, &seq, sizeof seq);
    if (!message->header) return;
    put16(message->bytes + 6, (uint32_t)seq & 0xffff);
    if (!message->checksum) return;
    uint32_t sum = message->sum + ((uint32_t)seq & 0xffff) + sum16(at, sizeof seq);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    put16(message->bytes + 2, ~sum & 0xffff);
}

/* Steps over the IPv4 header that raw sockets deliver, keeping its TTL and source. */
static bool strip_ip4(const unsigned char **bytes, size_t *length, struct reply *reply) {
    const unsigned char *ip = *bytes;
    if (*length < IP4_MIN_HEADER) return false;
    size_t header = (size_t)(ip[0] & 0xf) * 4;
    if (header < IP4_MIN_HEADER || *length < header) return false;
    reply->ttl = ip[8];
    reply->has_source = true;
    memcpy(reply->source, ip + 12, 4);
    *bytes += header;
    *length -= header;
    return true;
}

static bool strip_icmp(const struct message *message, const unsigned char **bytes, size_t *length) {
    const unsigned char *icmp = *bytes;
    const struct lab_stream *stream = message->stream;
    if (*length < ICMP_HEADER) return false;
    if (icmp[0] != (stream->family == AF_INET ? ECHO_REPLY_4 : ECHO_REPLY_6)) return false;
    if (stream->kind == LAB_ICMP_RAW && get16(icmp + 4) != stream->icmp_id) return false;
    *bytes += ICMP_HEADER;
    *length -= ICMP_HEADER;
    return true;
}

/* Whether the bytes are a reply of this stream; if so, fills in all of *reply but rx_ns. */
bool message_match(const struct message *message, const unsigned char *bytes, size_t length, struct reply *reply) {
    if (message->ip_header && !strip_ip4(&bytes, &length, reply)) return false;
    if (message->header && !strip_icmp(message, &bytes, &length)) return false;
    size_t wanted = message->header ? LAB_MIN_PAYLOAD_ICMP : LAB_MIN_PAYLOAD;
    if (length < wanted) return false;
    struct payload head = {0};
    memcpy(&head, bytes, wanted);
    if (head.nonce != message->stream->nonce) return false;
    reply->seq = head.seq;
    reply->far_rx_ns = head.far_rx_ns;
    reply->far_tx_ns = head.far_tx_ns;
    reply->bytes = (int32_t)length;
    return true;
}
