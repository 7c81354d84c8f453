/* A stand-in for libnvidia-ml.so.1: answers nvidia-ml-py's calls from the file that NVML_STUB names.

   Its lines: gpu NAME TOTAL_MB USED_MB BUSY        MB -1: not available
              instance GPU NAME TOTAL_MB USED_MB    of the GPU with this number, which is then in MIG mode
              process DEVICE PID MB                 DEVICE counts GPUs first, then instances; MB -1: not available
              drawing DEVICE PID MB
              fail FUNCTION CODE [DEVICE]           without nvml and _v2
              hang                                  the next question is never answered  */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, SIZE = 7, UNKNOWN = 999 };
typedef struct { char name[64]; long long total, used; int busy, parent; } Device;
typedef struct { int device, pid, drawing; long long mb; } Process;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } Info;

static Device devices[32];
static Process processes[64];
static int gpus, all, count, handles[32];

static int look(const char *function, void *handle) {
    char line[256], name[64], wrong[64] = "";
    int code = OK, said, device = handle ? (int)((int *)handle - handles) : -1;
    FILE *file = getenv("NVML_STUB") ? fopen(getenv("NVML_STUB"), "r") : NULL;
    if (!file) return UNKNOWN;
    gpus = all = count = 0;
    while (fgets(line, sizeof line, file)) {
        Device *d = &devices[all];
        Process *p = &processes[count];
        int of = -1;
        d->parent = -1;
        d->busy = 0;
        if (sscanf(line, "gpu %63s %lld %lld %d", d->name, &d->total, &d->used, &d->busy) == 4) gpus = ++all;
        else if (sscanf(line, "instance %d %63s %lld %lld", &d->parent, d->name, &d->total, &d->used) == 4) all++;
        else if (sscanf(line, "process %d %d %lld", &p->device, &p->pid, &p->mb) == 3) p->drawing = 0, count++;
        else if (sscanf(line, "drawing %d %d %lld", &p->device, &p->pid, &p->mb) == 3) p->drawing = 1, count++;
        else if ((said = sscanf(line, "fail %63s %d %d", name, &code, &of)) >= 2) {
            if (!strcmp(name, function) && (said == 2 || of == device)) strcpy(wrong, name); else code = OK;
            if (*wrong) { fclose(file); return code; }
        } else if (!strncmp(line, "hang", 4)) for (;;) pause();
    }
    fclose(file);
    return OK;
}
#define ASKED(function, handle) int error = look(function, handle); if (error) return error
#define AT(handle) ((int)((int *)(handle) - handles))

int nvmlInitWithFlags(unsigned flags) { ASKED("Init", NULL); return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned *n) { ASKED("DeviceGetCount", NULL); *n = gpus; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { ASKED("DeviceGetHandleByIndex", NULL); *h = &handles[i]; return OK; }
int nvmlDeviceGetName(void *h, char *name, unsigned size) {
    ASKED("DeviceGetName", h);
    snprintf(name, size, "%s", devices[AT(h)].name);
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long *memory) {
    ASKED("DeviceGetMemoryInfo", h);
    Device *d = &devices[AT(h)];
    if (d->used < 0) return NOT_SUPPORTED;
    memory[0] = d->total << 20, memory[1] = (d->total - d->used) << 20, memory[2] = d->used << 20;
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *h, unsigned *rates) {
    ASKED("DeviceGetUtilizationRates", h);
    if (devices[AT(h)].parent >= 0) return NOT_SUPPORTED;
    rates[0] = devices[AT(h)].busy, rates[1] = 0;
    return OK;
}
static int running(const char *function, void *h, unsigned *n, Info *found, int drawing) {
    ASKED(function, h);
    unsigned there = 0;
    for (int i = 0; i < count; i++)
        if (processes[i].device == AT(h) && processes[i].drawing == drawing) {
            if (found && there < *n)
                found[there] = (Info){processes[i].pid, processes[i].mb < 0 ? -1ULL : processes[i].mb << 20, 0, 0};
            there++;
        }
    int enough = there == 0 || (found && there <= *n);
    *n = there;
    return enough ? OK : SIZE;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, Info *found) {
    return running("DeviceGetComputeRunningProcesses", h, n, found, 0);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *n, Info *found) {
    return running("DeviceGetGraphicsRunningProcesses", h, n, found, 1);
}
int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *later) {
    ASKED("DeviceGetMigMode", h);
    *now = 0;
    for (int i = gpus; i < all; i++) *now |= devices[i].parent == AT(h);
    *later = *now;
    return *now ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *n) { ASKED("DeviceGetMaxMigDeviceCount", h); *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned place, void **instance) {
    ASKED("DeviceGetMigDeviceHandleByIndex", h);
    for (int i = gpus; i < all; i++)
        if (devices[i].parent == AT(h) && place-- == 0) { *instance = &handles[i]; return OK; }
    return NOT_FOUND;
}
