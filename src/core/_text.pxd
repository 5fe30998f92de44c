# Plan of the room: text buffers, and how values are written and read.

cdef struct Buf:
    char* data
    Py_ssize_t len
    Py_ssize_t cap

cdef enum Plain:
    OPAQUE = 0  # encoding it may run Python code, or there is no encoding
    REWRITE = 1  # we can write it without running Python code
    DIRECT = 2  # one call of the JSON library writes it

# Characters and digits, in C so that every module compiles them into its loops.
cdef extern from *:
    """
    /* True when none of the eight bytes is below 0x20, a quote or a backslash (all are ASCII). */
    static inline int gr_clean8(const char *p) {
        uint64_t x, y, z;
        memcpy(&x, p, 8);
        y = x ^ 0x2222222222222222ULL;
        z = x ^ 0x5C5C5C5C5C5C5C5CULL;
        return 0 == (0x8080808080808080ULL & (
            (x - 0x2020202020202020ULL) | (y - 0x0101010101010101ULL)
            | (z - 0x0101010101010101ULL)));
    }
    static inline int gr_clean(const char *p, Py_ssize_t n) {
        while (n >= 8) { if (!gr_clean8(p)) return 0; p += 8; n -= 8; }
        while (n-- > 0) {
            unsigned char c = (unsigned char)*p++;
            if (c < 0x20 || c == '"' || c == '\\\\') return 0;
        }
        return 1;
    }
    /* Write a number's decimal digits; at most 20 characters. */
    static inline Py_ssize_t gr_digits(char *out, long long number) {
        unsigned long long left = (unsigned long long)number;
        char *start = out;
        unsigned long long power = 10000;
        int count = 4, i;
        if (number < 0) { *out++ = '-'; left = 0ULL - left; }
        if (left < 10000) {
            count = left < 10 ? 1 : left < 100 ? 2 : left < 1000 ? 3 : 4;
        } else {
            while (count < 20 && left >= power) { count++; if (count < 20) power *= 10; }
        }
        for (i = count - 1; i > 0; i--) { out[i] = (char)('0' + left % 10); left /= 10; }
        out[0] = (char)('0' + left);
        return out + count - start;
    }
    /* Write a float of at most three decimals and 14 digits; 0 for others. Decimals of up to 15
       digits that parse to one double are one decimal: so this is the shortest form there is. */
    static inline Py_ssize_t gr_short_float(char *out, double value) {
        char *start = out;
        double scaled = value * 1000.0;
        long long number, rest;
        if (!(scaled < 1e14 && scaled > -1e14) || value == 0.0) return 0;
        number = (long long)scaled;
        if ((double)number != scaled || (double)number / 1000.0 != value) return 0;
        if (number < 0) { *out++ = '-'; number = -number; }
        out += gr_digits(out, number / 1000);
        rest = number % 1000;
        *out++ = '.';
        *out++ = (char)('0' + rest / 100);
        if (rest % 100) {
            *out++ = (char)('0' + rest / 10 % 10);
            if (rest % 10) *out++ = (char)('0' + rest % 10);
        }
        return out - start;
    }
    /* Copy a key; 0 when a character of it must be escaped. */
    static inline int gr_copy_key(char *out, const char *p, Py_ssize_t n) {
        Py_ssize_t i;
        for (i = 0; i < n; i++) {
            unsigned char c = (unsigned char)p[i];
            if (c < 0x20 || c == '"' || c == '\\\\' || c == '~' || c == '/') return 0;
            out[i] = (char)c;
        }
        return 1;
    }
    static inline int gr_clean_key(const char *p, Py_ssize_t n) {
        while (n-- > 0) {
            unsigned char c = (unsigned char)*p++;
            if (c < 0x20 || c == '"' || c == '\\\\' || c == '~' || c == '/') return 0;
        }
        return 1;
    }
    """
    int clean "gr_clean"(const char* p, Py_ssize_t n) noexcept
    int clean_key "gr_clean_key"(const char* p, Py_ssize_t n) noexcept
    int copy_key "gr_copy_key"(char* out, const char* p, Py_ssize_t n) noexcept
    Py_ssize_t digits "gr_digits"(char* out, long long number) noexcept
    Py_ssize_t short_float "gr_short_float"(char* out, double value) noexcept


cdef class Segmented:
    cdef readonly tuple pieces  # of bytes: the text around the buffers, one more than buffers
    cdef readonly tuple buffers  # of bytes
    cdef readonly Py_ssize_t nbytes  # size of the text form


# -- buffers
cdef int buf_take(Buf* buf) except -1
cdef void buf_give(Buf* buf) noexcept
cdef int buf_room(Buf* buf, Py_ssize_t more) except -1
cdef object buf_finish(Buf* buf, list holes)
cdef int put(Buf* buf, const char* data, Py_ssize_t size) except -1

# -- values
cdef Plain scan(object value, int room) noexcept
cdef int put_leaf(Buf* buf, object value, int room) except -1
cdef int put_tail(Buf* buf, str value, Py_ssize_t start) except -1
cdef int put_key(Buf* buf, str key) except -1
cdef int put_pointer(Buf* buf, bytes prefix, str key) except -1
cdef int put_any(Buf* buf, object value, object default, list holes, int room) except -1
cdef bytes text_slow(str value)

# -- bytes-values, and back
cdef Py_ssize_t base64_size(Py_ssize_t size) noexcept
cdef bytes splice(tuple pieces, tuple blobs, bint binary, list buffers)
cdef object undo_forms(object value, object buffers, int room, bint blobs)

cdef object default_encoder  # what set_default installed
cdef object loads  # parses JSON text
