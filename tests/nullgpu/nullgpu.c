// A GPU that computes nothing: answers CUDA, cuBLAS, cuDNN, NCCL and the driver, and counts calls.
//
// It is loaded before the real libraries (LD_PRELOAD), so torch's CUDA build meets this H100. No
// kernel writes anything, so there are no results: they read as zero. Which kernels are launched,
// what is copied, what the host waits for and how much memory is allocated are as on a real GPU.
// Calls that only have to succeed aren't here: null_gpu.py makes them, from what torch imports.
#define _GNU_SOURCE
#include <cudnn_version.h>
#include <dlfcn.h>
#include <driver_types.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector_types.h>

// ------------------------------------------------------------- what is counted, see gpu_counts.py
struct {
    _Atomic long kernels;       // torch's own, launched
    _Atomic long triton;        // compiled ones, launched
    _Atomic long products;      // cuBLAS: matrix products
    _Atomic long cudnn;         // cuDNN: convolutions and attention
    _Atomic long cudnn_plans;   // cuDNN: made, one for each shape
    _Atomic long graphs;        // CUDA graphs, launched
    _Atomic long collectives;   // NCCL
    _Atomic long to_gpu, from_gpu, within_gpu, memsets;                      // copies
    _Atomic long bytes_to_gpu, bytes_from_gpu, bytes_within_gpu;
    _Atomic long waits;         // of the host for the GPU
} nullgpu_counts;

void (*nullgpu_on_wait)(void);  // called at each wait, to find the line that waits

static void wait_for_gpu(void) {
    nullgpu_counts.waits++;
    if (nullgpu_on_wait) nullgpu_on_wait();
}

static _Atomic int capturing;            // a CUDA graph
static _Atomic int memory_is_known;      // no kernel was launched since the last copy to the GPU

static void *new_handle(void) {
    static _Atomic long handle;
    return (void *)(handle += 16);
}
static int from_environment(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

// calls that are counted, that wait, that create something, and that tell a number
#define COUNT(call, what) int call(void) { if (!capturing) nullgpu_counts.what++; return 0; }
#define WAIT(call) int call(void) { wait_for_gpu(); return 0; }
#define CREATE(call) int call(void **handle) { *handle = new_handle(); return 0; }
#define TELL(call, number) int call(int *value) { *value = number; return 0; }

// ------------------------------------------------------------------------- the device: an H100 SXM
enum { CORES = 132, SHARED = 232448, SHARED_BY_DEFAULT = 49152, REGISTERS = 65536, WARP = 32,
       BLOCK = 1024, THREADS = 2048, L2 = 50 << 20 };
static const size_t MEMORY = 85520809984;

static __thread int current_device;
TELL(cudaGetDevice, current_device)
int cudaSetDevice(int device) { current_device = device; return 0; }
TELL(cudaGetDeviceCount, from_environment("NULLGPU_DEVICES", 1))
int cudaGetDeviceProperties(struct cudaDeviceProp *device) {
    memset(device, 0, sizeof *device);
    strcpy(device->name, "NVIDIA H100 80GB HBM3 (null)");
    device->major = 9;
    device->totalGlobalMem = MEMORY;
    device->multiProcessorCount = CORES;
    device->sharedMemPerBlock = SHARED_BY_DEFAULT;
    device->sharedMemPerBlockOptin = SHARED;
    device->sharedMemPerMultiprocessor = SHARED + 1024;
    device->regsPerBlock = device->regsPerMultiprocessor = REGISTERS;
    device->warpSize = WARP;
    device->maxThreadsPerBlock = device->maxThreadsDim[0] = device->maxThreadsDim[1] = BLOCK;
    device->maxThreadsDim[2] = 64;
    device->maxThreadsPerMultiProcessor = THREADS;
    device->maxGridSize[0] = 2147483647;
    device->maxGridSize[1] = device->maxGridSize[2] = 65535;
    device->l2CacheSize = L2;
    device->textureAlignment = 512;
    device->unifiedAddressing = 1;
    return 0;
}
// the driver numbers attributes as the runtime does
static int attribute(enum cudaDeviceAttr name) {
    switch (name) {
        case cudaDevAttrComputeCapabilityMajor: return 9;
        case cudaDevAttrComputeCapabilityMinor: return 0;
        case cudaDevAttrMultiProcessorCount: return CORES;
        case cudaDevAttrMaxSharedMemoryPerBlock: return SHARED_BY_DEFAULT;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: return SHARED;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return SHARED + 1024;
        case cudaDevAttrMaxRegistersPerBlock: return REGISTERS;
        case cudaDevAttrMaxRegistersPerMultiprocessor: return REGISTERS;
        case cudaDevAttrWarpSize: return WARP;
        case cudaDevAttrMaxThreadsPerBlock: return BLOCK;
        case cudaDevAttrMaxThreadsPerMultiProcessor: return THREADS;
        case cudaDevAttrMaxGridDimX: return 2147483647;
        case cudaDevAttrL2CacheSize: return L2;
        case cudaDevAttrClockRate: return 1980000;                           // kHz
        case cudaDevAttrMemoryClockRate: return 2619000;
        case cudaDevAttrGlobalMemoryBusWidth: return 5120;                   // bits
        default: return 1;
    }
}
int cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr name) {
    *value = attribute(name);
    return 0;
}
int cudaDeviceGetPCIBusId(char *id, int size) {
    strncpy(id, "0000:00:00.0", size);
    return 0;
}
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return 0;
}
TELL(cudaDeviceCanAccessPeer, 0)
TELL(cudaDriverGetVersion, CUDA_VERSION)
TELL(cudaRuntimeGetVersion, CUDA_VERSION)
const char *cudaGetErrorString(int error) { return "an error of the null GPU"; }
const char *cudaGetErrorName(int error) { return "an error of the null GPU"; }

// ----------------------------------------------------------------------------------------- kernels
static void launch(void) {
    memory_is_known = 0;
    if (!capturing) nullgpu_counts.kernels++;
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *module;
    return &module;
}
// a launch <<<grid, block>>> passes its arguments through these
unsigned __cudaPushCallConfiguration(void) { return 0; }
int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = *block = (dim3){1, 1, 1};
    *shared = 0;
    *(void **)stream = NULL;
    return 0;
}
int __cudaGetKernel(const void **kernel, const void *stub) {
    *kernel = stub;
    return 0;
}
int __cudaLaunchKernel(const void *stub) {
    launch();
    return 0;
}
int cudaLaunchKernel(const void *stub) {
    launch();
    return 0;
}
int cudaLaunchKernelExC(const void *how, const void *stub) {
    launch();
    return 0;
}
int cudaFuncGetAttributes(struct cudaFuncAttributes *attributes) {
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = BLOCK;
    attributes->binaryVersion = attributes->ptxVersion = 90;
    return 0;
}
TELL(cudaOccupancyMaxActiveBlocksPerMultiprocessor, 2)
TELL(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, 2)

// ------------------------------------------------------------------------------------------ memory
// Two ranges of addresses, so large that none is given out twice; what is never written takes no
// memory.
enum { PAGE = 2 << 20 };        // CUDA, too, allocates in pages of 2 MB
struct range {
    char *start;
    size_t size, end;           // end: of what was given out
};
#define TERABYTE (1ul << 40)
static struct range gpu = {.size = 4 * TERABYTE}, pinned = {.size = TERABYTE / 4};
static unsigned pages_of[4 * TERABYTE / PAGE];   // of the allocation that begins at a page
static size_t allocated;        // now, on the GPU
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *take(struct range *range, size_t bytes) {
    if (!range->start) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        range->start = mmap(NULL, range->size, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (range->start == MAP_FAILED) abort();
    }
    if (range->end + bytes > range->size) abort();
    void *start = range->start + range->end;
    range->end += bytes;
    return start;
}
static int lies_in(struct range *range, const void *address) {
    return range->start && (char *)address >= range->start
        && (char *)address < range->start + range->size;
}
static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

int cudaMalloc(void **start, size_t bytes) {
    bytes = round_up(bytes, PAGE);
    pthread_mutex_lock(&lock);
    int fits = allocated + bytes <= MEMORY;
    if (fits) {
        *start = take(&gpu, bytes);
        pages_of[((char *)*start - gpu.start) / PAGE] = bytes / PAGE;
        allocated += bytes;
    }
    pthread_mutex_unlock(&lock);
    return fits ? 0 : cudaErrorMemoryAllocation;
}
int cudaFree(void *start) {
    pthread_mutex_lock(&lock);
    if (lies_in(&gpu, start))
        allocated -= (size_t)pages_of[((char *)start - gpu.start) / PAGE] * PAGE;
    pthread_mutex_unlock(&lock);
    return 0;
}
int cudaMemGetInfo(size_t *free, size_t *total) {
    *total = MEMORY;
    *free = MEMORY - allocated;
    return 0;
}
int cudaHostAlloc(void **start, size_t bytes) {
    pthread_mutex_lock(&lock);
    *start = take(&pinned, round_up(bytes, 4096));
    pthread_mutex_unlock(&lock);
    return 0;
}
int cudaMallocHost(void **start, size_t bytes) { return cudaHostAlloc(start, bytes); }

int cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, void *address) {
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeUnregistered;
    if (lies_in(&gpu, address)) attributes->type = cudaMemoryTypeDevice;
    if (lies_in(&pinned, address)) attributes->type = cudaMemoryTypeHost;
    attributes->hostPointer = attributes->devicePointer = address;
    return 0;
}
int cudaGetSymbolAddress(void **address) {
    static char variable[4096];
    *address = variable;
    return 0;
}

// ------------------------------------------------------------------------------------------ copies
// DDP reads back what it has sent, so small copies are made; large ones would only take memory.
enum { SMALL = 1 << 16 };
static const void *last_to_gpu;
static size_t last_bytes;

static void copy(void *to, const void *from, size_t bytes) {
    if (lies_in(&gpu, to) && lies_in(&gpu, from)) {
        nullgpu_counts.within_gpu++;
        nullgpu_counts.bytes_within_gpu += bytes;
        if (bytes <= SMALL) memcpy(to, from, bytes);
    } else if (lies_in(&gpu, to)) {
        nullgpu_counts.to_gpu++;
        nullgpu_counts.bytes_to_gpu += bytes;
        if (bytes <= SMALL) memcpy(to, from, bytes);
        last_to_gpu = to;
        last_bytes = bytes;
        memory_is_known = 1;
    } else {
        nullgpu_counts.from_gpu++;
        nullgpu_counts.bytes_from_gpu += bytes;
        if (memory_is_known)
            memcpy(to, from, bytes);
        else
            memset(to, bytes == 1, bytes);       // a single byte is a truth value: all is well
    }
}
int cudaMemcpy(void *to, const void *from, size_t bytes) {
    copy(to, from, bytes);
    wait_for_gpu();
    return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes) {
    copy(to, from, bytes);
    const void *host = lies_in(&gpu, to) ? from : to;
    if (!lies_in(&gpu, host) && !lies_in(&pinned, host)) wait_for_gpu();     // it is pageable
    return 0;
}
COUNT(cudaMemset, memsets)
COUNT(cudaMemsetAsync, memsets)

// ------------------------------------------------------------------------------ streams and events
WAIT(cudaDeviceSynchronize)
WAIT(cudaStreamSynchronize)
WAIT(cudaEventSynchronize)
CREATE(cudaStreamCreate)
CREATE(cudaStreamCreateWithFlags)
CREATE(cudaStreamCreateWithPriority)
CREATE(cudaEventCreate)
CREATE(cudaEventCreateWithFlags)
int cudaStreamGetPriority(void *stream, int *priority) { *priority = 0; return 0; }
int cudaEventElapsedTime(float *milliseconds) { *milliseconds = 1; return 0; }

// a captured CUDA graph is an empty one, and what is launched meanwhile isn't counted
int cudaStreamBeginCapture(void) { capturing = 1; return 0; }
int cudaStreamEndCapture(void *stream, void **graph) {
    capturing = 0;
    *graph = new_handle();
    return 0;
}
int cudaStreamIsCapturing(void *stream, int *status) { *status = capturing; return 0; }
int cudaStreamGetCaptureInfo(void *stream, int *status, uint64_t *id) {
    *status = capturing;
    if (id) *id = 1;
    return 0;
}
CREATE(cudaGraphInstantiate)
CREATE(cudaGraphInstantiateWithFlags)
int cudaGraphGetNodes(void *graph, void *nodes, size_t *count) { *count = 1; return 0; }
COUNT(cudaGraphLaunch, graphs)

// ------------------------------------------------------------------------------------------ cuBLAS
COUNT(cublasGemmEx, products)
COUNT(cublasGemmStridedBatchedEx, products)
COUNT(cublasSgemm_v2, products)
COUNT(cublasSgemmEx, products)
COUNT(cublasSgemmStridedBatched, products)
COUNT(cublasSgemv_v2, products)
COUNT(cublasSdot_v2, products)
COUNT(cublasDotEx, products)
COUNT(cublasLtMatmul, products)
CREATE(cublasCreate_v2)
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *matmul, void *a, void *b, void *c, void *d,
                                   void *preference, int wanted, void *results, int *count) {
    *count = 1;
    return 0;
}

// ------------------------------------------------------------------------------------------- cuDNN
COUNT(cudnnBackendExecute, cudnn)
size_t cudnnGetVersion(void) { return CUDNN_VERSION; }
const char *cudnnGetErrorString(int error) { return "an error of the null GPU"; }
CREATE(cudnnCreate)
int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
    *descriptor = new_handle();
    return 0;
}
int cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *count,
                             void *values) {
    // one way to do it, about which there is no more to know; it needs no workspace
    enum { RESULTS_OF_HEURISTICS = 202, INT64 = 3, INT32 = 23 };
    if (name == RESULTS_OF_HEURISTICS && values) nullgpu_counts.cudnn_plans++;
    if (count) *count = name == RESULTS_OF_HEURISTICS;
    if (type == INT64 && values) *(int64_t *)values = 0;
    if (type == INT32 && values) *(int32_t *)values = 0;
    return 0;
}

// -------------------------------------------------------------------------------------------- NCCL
COUNT(ncclAllReduce, collectives)
COUNT(ncclReduceScatter, collectives)
COUNT(ncclReduce, collectives)
COUNT(ncclBcast, collectives)
COUNT(ncclAlltoAll, collectives)
COUNT(ncclSend, collectives)
COUNT(ncclRecv, collectives)
// Processes don't talk. While DDP starts, all send the same, which is what they last copied to the
// GPU.
static size_t receive(char *to, const void *from, size_t count, int type) {
    static const size_t bytes_of_type[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    size_t bytes = count * bytes_of_type[type];
    if (bytes == last_bytes) from = last_to_gpu;
    if (bytes <= SMALL) memmove(to, from, bytes);
    return bytes;
}
int ncclBroadcast(const void *from, void *to, size_t count, int type) {
    nullgpu_counts.collectives++;
    receive(to, from, count, type);
    return 0;
}
int ncclAllGather(const void *from, char *to, size_t count, int type) {
    nullgpu_counts.collectives++;
    for (int rank = 0; rank < from_environment("WORLD_SIZE", 1); rank++)
        to += receive(to, from, count, type);
    return 0;
}
TELL(ncclGetVersion, 22800)
int ncclGetUniqueId(char *id) { memset(id, 1, 128); return 0; }
CREATE(ncclCommInitRank)
CREATE(ncclCommInitRankConfig)
CREATE(ncclCommInitRankScalable)
int ncclCommSplit(void *comm, int color, int key, void **new_comm) {
    *new_comm = new_handle();
    return 0;
}
int ncclCommGetAsyncError(void *comm, int *error) { *error = 0; return 0; }
int ncclCommCount(void *comm, int *count) { *count = from_environment("WORLD_SIZE", 1); return 0; }
int ncclCommUserRank(void *comm, int *rank) { *rank = from_environment("RANK", 0); return 0; }
const char *ncclGetErrorString(int error) { return "an error of the null GPU"; }
const char *ncclGetLastError(void *comm) { return ""; }

// ------------------------------------------------------------ the driver, which Triton calls, too
COUNT(cuLaunchKernel, triton)
COUNT(cuLaunchKernelEx, triton)
TELL(cuDriverGetVersion, CUDA_VERSION)
int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetAttribute(int *value, int name) { *value = attribute(name); return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return 0;
}
static int context;
int cuDevicePrimaryCtxRetain(void **current) { *current = &context; return 0; }
int cuCtxGetCurrent(void **current) { *current = &context; return 0; }
TELL(cuCtxGetDevice, current_device)
int cuPointerGetAttribute(const void **value, int name, const void *address) {
    *value = address;
    return 0;
}
CREATE(cuModuleLoad)
CREATE(cuModuleLoadData)
CREATE(cuModuleLoadDataEx)
CREATE(cuModuleGetFunction)
int cuFuncGetAttribute(int *value, int name) {
    enum { MOST_THREADS_PER_BLOCK = 0, REGISTERS_PER_THREAD = 4 };
    *value = 0;
    if (name == MOST_THREADS_PER_BLOCK) *value = BLOCK;
    if (name == REGISTERS_PER_THREAD) *value = 32;
    return 0;
}
TELL(cuOccupancyMaxActiveClusters, 1)
int cuGetErrorString(int error, const char **text) {
    *text = "an error of the null GPU";
    return 0;
}

// functions of the driver by name: ours, or one that only succeeds
static int succeed(void) { return 0; }
static void *driver_function(const char *name) {
    void *function = dlsym(RTLD_DEFAULT, name);
    return function ? function : succeed;
}
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                        int *status) {
    *function = driver_function(name);
    if (status) *status = 0;
    return 0;
}
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                     uint64_t flags, int *status) {
    return cuGetProcAddress_v2(name, function, version, flags, status);
}
