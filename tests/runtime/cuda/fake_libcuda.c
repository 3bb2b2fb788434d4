/* A driver library of one made-up GPU, whose memory is the host's and whose work is done at once:
   enough for cuda.bindings to run the toy of tests/runtime/cuda/toy_plan.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Address;
typedef void *Handle;

enum { HIDDEN = 16, VOCAB = 258, MOST = 10, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };
#define HANDLE(n) ((Handle)(uintptr_t)(n))

/* What is taken and not given back; printed at the end. */
static int live_memory, live_pinned, live_streams, live_events, live_modules, live_graphs,
    live_instances, live_contexts;
static int next_handle = 100;

static float from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

/* What a tensor map tells here, of the 128 bytes that it has. */
typedef union {
  struct {
    const uint16_t *matrix;
    uint64_t columns, rows, stride;
  };
  unsigned char bytes[128];
} TensorMap;

static void embed(void **p) {
  const int32_t *tokens = *(const int32_t **)p[0];
  const TensorMap *map = p[1];
  const uint16_t *table = map->matrix;
  float *state = *(float **)p[6];
  int32_t rows = *(int32_t *)p[7];
  if (map->rows != VOCAB || map->columns != HIDDEN || map->stride != 2 * HIDDEN) abort();
  if (*(int32_t *)p[2] != VOCAB || *(int32_t *)p[3] != HIDDEN) abort();
  if (*(int64_t *)p[4] != HIDDEN || *(int64_t *)p[5] != 1) abort();
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < HIDDEN; i++)
      state[row * HIDDEN + i] = from_bf16(table[tokens[row] * HIDDEN + i]);
}

static void sums(void **p) {
  const float *state = *(const float **)p[0];
  const int32_t *starts = *(const int32_t **)p[1];
  float *out = *(float **)p[2];
  int32_t sequences = *(int32_t *)p[3];
  for (int b = 0; b < sequences; b++)
    for (int i = 0; i < HIDDEN; i++) {
      float sum = 0;
      for (int row = starts[b]; row < starts[b + 1]; row++) {
        sum += state[row * HIDDEN + i];
        out[row * HIDDEN + i] += sum;
      }
    }
}

static void head(void **p) {
  const float *in = *(const float **)p[0];
  const int32_t *starts = *(const int32_t **)p[1];
  const uint16_t *matrix = *(const uint16_t **)p[2];
  float *logits = *(float **)p[3];
  int64_t rows = *(int64_t *)p[4];
  float scale = *(float *)p[5];
  /* The two that Triton's kernels take behind their own. */
  if (*(uint64_t *)p[6] || *(uint64_t *)p[7]) abort();
  for (int64_t b = 0; b < rows; b++)
    for (int v = 0; v < VOCAB; v++) {
      float sum = 0;
      for (int i = 0; i < HIDDEN; i++)
        sum += tanhf(in[(starts[b + 1] - 1) * HIDDEN + i]) * scale * from_bf16(matrix[i * VOCAB + v]);
      logits[b * VOCAB + v] = sum;
    }
}

typedef struct {
  const char *symbol;
  void (*run)(void **);
  int count;
  int sizes[MOST];
  int shared;
} Kernel;

static Kernel kernels[] = {
    {"embed", embed, 10, {8, 128, 4, 4, 8, 8, 8, 4, 8, 8}, 49152},
    {"sums", sums, 6, {8, 8, 8, 4, 8, 8}, 49152},
    {"head", head, 8, {8, 8, 8, 8, 8, 4, 8, 8}, 49152},
};

/* What was captured: kernels with copies of their parameters, and fills. */
typedef struct {
  Kernel *kernel;
  TensorMap values[MOST];
  void *filled;
  unsigned char byte;
  size_t size;
} Step;
typedef struct {
  Step steps[64];
  int count;
} Graph;
static Graph *capturing;

static void do_step(Step *step) {
  if (!step->kernel) {
    memset(step->filled, step->byte, step->size);
    return;
  }
  void *pointers[MOST];
  for (int i = 0; i < MOST; i++) pointers[i] = &step->values[i];
  step->kernel->run(pointers);
}

static void add_step(Step *step) {
  if (capturing)
    capturing->steps[capturing->count++] = *step;
  else
    do_step(step);
}

Result cuInit(unsigned flags) { return flags ? INVALID_VALUE : 0; }
Result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
Result cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, length, "Fake GPU %d", device);
  return 0;
}
Result cuDeviceTotalMem(size_t *bytes, int device) { *bytes = 1 << 30; return device; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  if (attribute == 75) *value = 9;
  else if (attribute == 76) *value = 0;
  else if (attribute == 97) *value = 227 * 1024;
  else return INVALID_VALUE;
  return device;
}
Result cuDevicePrimaryCtxRetain(Handle *context, int device) {
  live_contexts++;
  *context = HANDLE(7);
  return device;
}
Result cuDevicePrimaryCtxRelease(int device) { live_contexts--; return device; }
Result cuCtxPushCurrent(Handle context) { return context == HANDLE(7) ? 0 : INVALID_VALUE; }
Result cuCtxPopCurrent(Handle *context) { *context = HANDLE(7); return 0; }
Result cuMemGetInfo(size_t *left, size_t *total) { *left = *total = 1 << 30; return 0; }
Result cuMemAlloc(Address *address, size_t size) {
  if (!size || size > 1 << 30) return size ? OUT_OF_MEMORY : INVALID_VALUE;
  void *held = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(held, 0xff, size);
  live_memory++;
  *address = (Address)held;
  return 0;
}
Result cuMemFree(Address address) { live_memory--; free((void *)address); return 0; }
Result cuMemHostAlloc(void **address, size_t size, unsigned flags) {
  *address = malloc(size);
  live_pinned++;
  return flags;
}
Result cuMemFreeHost(void *address) { live_pinned--; free(address); return 0; }
Result cuMemcpyHtoDAsync(Address target, const void *source, size_t size, Handle stream) {
  memcpy((void *)target, source, size);
  return stream ? 0 : INVALID_VALUE;
}
Result cuMemcpyDtoHAsync(void *target, Address source, size_t size, Handle stream) {
  memcpy(target, (void *)source, size);
  return stream ? 0 : INVALID_VALUE;
}
Result cuMemcpyDtoDAsync(Address target, Address source, size_t size, Handle stream) {
  memcpy((void *)target, (void *)source, size);
  return stream ? 0 : INVALID_VALUE;
}
Result cuMemsetD8Async(Address address, unsigned char byte, size_t size, Handle stream) {
  Step step = {.filled = (void *)address, .byte = byte, .size = size};
  add_step(&step);
  return stream ? 0 : INVALID_VALUE;
}
Result cuStreamCreate(Handle *stream, unsigned flags) {
  live_streams++;
  *stream = HANDLE(next_handle++);
  return flags == 1 ? 0 : INVALID_VALUE;
}
Result cuStreamDestroy(Handle stream) { live_streams--; return stream ? 0 : INVALID_VALUE; }
Result cuStreamSynchronize(Handle stream) { return stream ? 0 : INVALID_VALUE; }
Result cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) {
  return stream && event ? (Result)flags : INVALID_VALUE;
}
Result cuEventCreate(Handle *event, unsigned flags) {
  live_events++;
  *event = HANDLE(next_handle++);
  return flags == 0 || flags == 2 ? 0 : INVALID_VALUE;
}
Result cuEventDestroy(Handle event) { live_events--; return event ? 0 : INVALID_VALUE; }
Result cuEventRecord(Handle event, Handle stream) { return event && stream ? 0 : INVALID_VALUE; }
Result cuEventSynchronize(Handle event) { return event ? 0 : INVALID_VALUE; }
Result cuEventElapsedTime(float *milliseconds, Handle start, Handle end) {
  *milliseconds = 0.5f;
  return start && end ? 0 : INVALID_VALUE;
}
Result cuModuleLoadData(Handle *module, const void *image) {
  live_modules++;
  *module = HANDLE(next_handle++);
  return image ? 0 : INVALID_VALUE;
}
Result cuModuleUnload(Handle module) { live_modules--; return module ? 0 : INVALID_VALUE; }
Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
    if (module && !strcmp(kernels[i].symbol, name)) {
      *function = &kernels[i];
      return 0;
    }
  return NOT_FOUND;
}
Result cuFuncSetAttribute(Kernel *function, int attribute, int value) {
  if (attribute != 8 || value > 227 * 1024) return INVALID_VALUE;
  function->shared = value;
  return 0;
}
Result cuFuncGetParamInfo(Kernel *function, size_t index, size_t *offset, size_t *size) {
  if (index >= (size_t)function->count) return INVALID_VALUE;
  *offset = 0;
  *size = function->sizes[index];
  return 0;
}
Result cuTensorMapEncodeTiled(TensorMap *map, int element, uint32_t rank, void *matrix,
                              const uint64_t *dims, const uint64_t *strides, const uint32_t *box,
                              const uint32_t *steps, int interleave, int swizzle, int promotion,
                              int fill) {
  if (element != 9 || rank != 2 || interleave || swizzle != 1 || promotion != 2 || fill)
    return INVALID_VALUE;
  if ((uintptr_t)matrix % 16 || strides[0] % 16 || !box[0] || !box[1] || box[0] > 256 ||
      box[1] > 256 || steps[0] != 1 || steps[1] != 1)
    return INVALID_VALUE;
  memset(map, 0, sizeof *map);
  map->matrix = matrix;
  map->columns = dims[0];
  map->rows = dims[1];
  map->stride = strides[0];
  return 0;
}
Result cuLaunchKernel(Kernel *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, Handle stream, void **parameters,
                      void **extra) {
  if (!gx || !gy || !gz || bx % 32 || by != 1 || bz != 1 || !stream || extra) return INVALID_VALUE;
  if ((int)shared > function->shared) return INVALID_VALUE;
  Step step = {.kernel = function};
  for (int i = 0; i < function->count; i++)
    memcpy(&step.values[i], parameters[i], function->sizes[i]);
  add_step(&step);
  return 0;
}
Result cuStreamBeginCapture(Handle stream, int mode) {
  capturing = calloc(1, sizeof *capturing);
  return stream && mode == 2 ? 0 : INVALID_VALUE;
}
Result cuStreamEndCapture(Handle stream, Graph **graph) {
  live_graphs++;
  *graph = capturing;
  capturing = NULL;
  return stream ? 0 : INVALID_VALUE;
}
Result cuGraphInstantiate(Graph **instance, Graph *graph, unsigned long long flags) {
  live_instances++;
  *instance = malloc(sizeof **instance);
  **instance = *graph;
  return (Result)flags;
}
Result cuGraphInstantiateWithFlags(Graph **instance, Graph *graph, unsigned long long flags) {
  return cuGraphInstantiate(instance, graph, flags);
}
Result cuGraphDestroy(Graph *graph) { live_graphs--; free(graph); return 0; }
Result cuGraphExecDestroy(Graph *instance) { live_instances--; free(instance); return 0; }
Result cuGraphLaunch(Graph *instance, Handle stream) {
  for (int i = 0; i < instance->count; i++) do_step(&instance->steps[i]);
  return stream ? 0 : INVALID_VALUE;
}

Result cuGetProcAddress_v2(const char *symbol, void **found, int version, uint64_t flags,
                           int *status) {
  (void)version, (void)flags;
  *found = dlsym(RTLD_DEFAULT, symbol);
  if (!*found) {
    Dl_info own;
    if (dladdr((void *)cuInit, &own)) {
      void *library = dlopen(own.dli_fname, RTLD_NOW | RTLD_NOLOAD);
      *found = library ? dlsym(library, symbol) : NULL;
    }
  }
  if (status) *status = *found ? 0 : 1;
  return 0;
}
Result cuGetProcAddress(const char *symbol, void **found, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, found, version, flags, NULL);
}

int fake_live(void) {
  return live_memory + live_pinned + live_streams + live_events + live_modules + live_graphs +
         live_instances + live_contexts;
}
