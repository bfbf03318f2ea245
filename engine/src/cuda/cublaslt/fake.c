// A cuBLASLt of loops over the host's memory, for tests: what the engine calls, with the meaning that
// NVIDIA's documentation gives it. Columns lie one after another; D = alpha * op(A) * op(B) + beta * C.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint32_t kind; uint64_t rows, cols; int64_t ld; } Layout;
typedef struct { int32_t turned[2]; } Product;
typedef struct { size_t workspace; uint32_t alignment[4]; } Preference;
typedef struct { uint64_t algorithm[8]; size_t workspace; uint32_t status; float waves; int32_t reserved[4]; } Found;
enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };

#ifndef CREATED
#define CREATED OK
#endif

int cublasLtCreate(void **handle) { *handle = calloc(1, 1); return CREATED; }
int cublasLtDestroy(void *handle) { free(handle); return OK; }
size_t cublasLtGetVersion(void) { return 130002; }
const char *cublasLtGetStatusString(int status) {
  return status == NOT_INITIALIZED ? "the library was not initialized"
       : status == INVALID_VALUE ? "an invalid value" : status == NOT_SUPPORTED ? "not supported" : "other";
}

int cublasLtMatrixLayoutCreate(Layout **layout, uint32_t kind, uint64_t rows, uint64_t cols, int64_t ld) {
  if (ld < (int64_t)rows) return INVALID_VALUE;
  *layout = malloc(sizeof(Layout));
  **layout = (Layout){kind, rows, cols, ld};
  return OK;
}
int cublasLtMatrixLayoutDestroy(Layout *layout) { free(layout); return OK; }

int cublasLtMatmulDescCreate(Product **product, uint32_t compute, uint32_t scale) {
  *product = calloc(1, sizeof(Product));
  return compute == 68 && scale == 0 ? OK : NOT_SUPPORTED;
}
int cublasLtMatmulDescDestroy(Product *product) { free(product); return OK; }
int cublasLtMatmulDescSetAttribute(Product *product, uint32_t attribute, const void *value, size_t size) {
  if (size != 4 || attribute < 3 || attribute > 4) return INVALID_VALUE;
  memcpy(&product->turned[attribute - 3], value, size);
  return OK;
}

int cublasLtMatmulPreferenceCreate(Preference **preference) {
  *preference = malloc(sizeof(Preference));
  **preference = (Preference){0, {256, 256, 256, 256}};
  return OK;
}
int cublasLtMatmulPreferenceDestroy(Preference *preference) { free(preference); return OK; }
int cublasLtMatmulPreferenceSetAttribute(Preference *preference, uint32_t attribute, const void *value, size_t size) {
  if (attribute == 1 && size == 8) memcpy(&preference->workspace, value, size);
  else if (attribute >= 5 && attribute <= 8 && size == 4) memcpy(&preference->alignment[attribute - 5], value, size);
  else return INVALID_VALUE;
  return OK;
}

// The rows and columns of op(X).
static void sizes(const Layout *x, int turned, uint64_t *rows, uint64_t *cols) {
  *rows = turned ? x->cols : x->rows;
  *cols = turned ? x->rows : x->cols;
}
static int fits(const Product *p, const Layout *a, const Layout *b, const Layout *c) {
  uint64_t m, k, k2, n;
  sizes(a, p->turned[0], &m, &k);
  sizes(b, p->turned[1], &k2, &n);
  return k == k2 && c->rows == m && c->cols == n;
}

// The algorithm that is found is its promise: alignment of A, B, C and D, and bytes of work space.
int cublasLtMatmulAlgoGetHeuristic(void *handle, Product *p, Layout *a, Layout *b, Layout *c, Layout *d,
                                   Preference *preference, int wanted, Found *found, int *count) {
  if (!handle || wanted != 1 || c != d || !fits(p, a, b, c)) return INVALID_VALUE;
  *count = 1;
  *found = (Found){{preference->alignment[0], preference->alignment[1], preference->alignment[2],
                    preference->alignment[3], preference->workspace}, 0, OK, 1.0f, {0}};
  return OK;
}

static float read_at(const void *p, const Layout *x, uint64_t row, uint64_t col) {
  uint64_t at = row + col * x->ld;
  uint32_t bits;
  float value;
  if (x->kind == 0) return ((const float *)p)[at];
  bits = (uint32_t)((const uint16_t *)p)[at] << 16;
  memcpy(&value, &bits, 4);
  return value;
}
static void write_at(void *p, const Layout *x, uint64_t row, uint64_t col, float value) {
  uint64_t at = row + col * x->ld;
  uint32_t bits;
  if (x->kind == 0) { ((float *)p)[at] = value; return; }
  memcpy(&bits, &value, 4);
  ((uint16_t *)p)[at] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

int cublasLtMatmul(void *handle, Product *p, const float *alpha, const void *a, Layout *la, const void *b, Layout *lb,
                   const float *beta, const void *c, Layout *lc, void *d, Layout *ld, const uint64_t *algorithm,
                   void *workspace, size_t workspace_bytes, void *stream) {
  const void *addresses[4] = {a, b, c, d};
  uint64_t m, n, k, i, j, l;
  if (!handle || !workspace || !stream || workspace_bytes < algorithm[4] || !fits(p, la, lb, ld)) return INVALID_VALUE;
  for (i = 0; i < 4; i++) if ((uintptr_t)addresses[i] % algorithm[i]) return NOT_SUPPORTED;
  sizes(la, p->turned[0], &m, &k);
  n = ld->cols;
  for (j = 0; j < n; j++) for (i = 0; i < m; i++) {
    float sum = 0;
    for (l = 0; l < k; l++) {
      float x = p->turned[0] ? read_at(a, la, l, i) : read_at(a, la, i, l);
      float y = p->turned[1] ? read_at(b, lb, j, l) : read_at(b, lb, l, j);
      sum += x * y;
    }
    write_at(d, ld, i, j, *alpha * sum + (*beta != 0 ? *beta * read_at(c, lc, i, j) : 0));
  }
  return OK;
}
