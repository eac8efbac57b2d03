/* A complete agent in C: serves, over its socket, a subsystem that asks for one of K candidates.
 *   cc -O2 -o agent agent.c && ./agent SOCKET [DECISIONS [FIRST STEP]]
 * It recommends the candidate with the lowest value of one feature, of which candidate 0 has place FIRST, the next
 * one FIRST + STEP and so on; "30 8" is the share of valid blocks of kml/LfsVictim-v0: the greedy algorithm, in user
 * space. Without them it takes the first candidate that may be chosen. For little-endian machines. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 1, WRITE = 2, WAIT = 3, HEADER = 40, LONGEST = 1 << 16 };

struct header { /* of a data set; 40 bytes without holes */
    char magic[4];
    uint16_t version, size;
    int64_t generation, progress;
    uint32_t features, candidates, deadline_us, flags;
};

static int server;

static void transfer(int writing, void *place, size_t count)
{
    for (char *at = place; count > 0;) {
        ssize_t done = writing ? send(server, at, count, MSG_NOSIGNAL) : recv(server, at, count, 0);
        if (done <= 0)
            exit((fprintf(stderr, "the server is gone\n"), 1));
        at += done;
        count -= (size_t)done;
    }
}

/* One request and its answer: returns the status, and leaves what follows it in `contents`. */
static int32_t ask(uint8_t operation, const char *name, const void *rest, uint32_t count, char *contents)
{
    char request[256];
    uint8_t length = (uint8_t)strlen(name);
    uint32_t size = 2 + length + count;
    int32_t status;

    memcpy(request, &size, 4);
    request[4] = (char)operation;
    request[5] = (char)length;
    memcpy(request + 6, name, length);
    memcpy(request + 6 + length, rest, count);
    transfer(1, request, 4 + size);
    transfer(0, &size, 4);
    transfer(0, &status, 4);
    transfer(0, contents, size - 4 < LONGEST ? size - 4 : LONGEST);
    return status;
}

static unsigned choose(const char *record, const struct header *header, unsigned first, unsigned step)
{
    const float *features = (const float *)(record + header->size);
    const uint8_t *mask = (const uint8_t *)(features + header->features);
    unsigned best = header->candidates;

    for (unsigned k = 0; k < header->candidates; k++)
        if (mask[k] && (best == header->candidates
                        || (step && features[first + k * step] < features[first + best * step])))
            best = k;
    return best;
}

int main(int count, char **words)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    long decisions = count > 2 ? atol(words[2]) : 0;
    unsigned first = count > 4 ? (unsigned)atoi(words[3]) : 0, step = count > 4 ? (unsigned)atoi(words[4]) : 0;
    static char record[LONGEST] __attribute__((aligned(8)));
    const struct header *header = (const struct header *)record;
    uint32_t timeout_ms = 1000;

    if (count < 2 || strlen(words[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, words[1]);
    server = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address) < 0)
        return perror(words[1]), 1;
    for (long answered = 0; decisions == 0 || answered < decisions;) {
        int32_t status = ask(READ, "dataset", "", 0, record);
        if (status == -EAGAIN) {
            ask(WAIT, "dataset", &timeout_ms, 4, record);
            continue;
        }
        if (status < HEADER || memcmp(header->magic, "KMLD", 4) != 0 || header->candidates == 0)
            return fprintf(stderr, "this agent chooses among candidates\n"), 2;
        char text[64];
        int length = snprintf(text, sizeof text, "%lld %u", (long long)header->generation,
                              choose(record, header, first, step));
        ask(WRITE, "recommendation", text, (uint32_t)length, record);
        answered++;
    }
    return 0;
}
