// A driver that says what the environment tells it to: machines that a test cannot have.
#include <stdlib.h>
#include <string.h>

static int number(const char* name, int usual) {
    const char* text = getenv(name);
    return text == NULL ? usual : atoi(text);
}

int cuInit(unsigned flags) {
    (void)flags;
    return number("FAKE_INIT", 0);
}

int cuDriverGetVersion(int* version) {
    *version = number("FAKE_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int* count) {
    *count = number("FAKE_COUNT", 1);
    return 0;
}

int cuDeviceGet(int* device, int index) {
    *device = index;
    return 0;
}

int cuDeviceGetName(char* name, int size, int device) {
    (void)device;
    strncpy(name, "Fake GPU", (size_t)size);
    return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    (void)device;
    *bytes = (size_t)16 << 30;
    return 0;
}

// 75 and 76 are the compute capability, 16 the multiprocessors.
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    const int capability = number("FAKE_CAPABILITY", 90);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 108;
    return 0;
}
