/* token_ids.cut_out in C: it runs for every read of every stream that can be continued. Python calls a few functions for
   each event; here a read is two walks from bracket to bracket. token_ids.py says what it does, and does it where there is
   no C compiler; tests/serving/test_token_ids.py holds both to one table. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define NAME "token_ids\":"
#define OF_PROMPT "\"prompt_"
#define NO_IDS "null"
#define SIZE(text) ((Py_ssize_t)sizeof(text) - 1)

/* A list of ids in the events, brackets included. */
typedef struct {
    const char *opens, *closes;
    int is_prompts;
} List;

static int
stands_before(const char *place, const char *begin, const char *text, Py_ssize_t size)
{
    return place - begin >= size && memcmp(place - size, text, (size_t)size) == 0;
}

/* Find the next list at or after `at`; 0 where there is none. */
static int
next_list(const char *at, const char *begin, const char *end, List *found)
{
    while (at < end && (at = memchr(at, '[', (size_t)(end - at))) != NULL) {
        const char *opens = at++, *name = opens - SIZE(NAME);
        if (!stands_before(opens, begin, NAME, SIZE(NAME)))
            continue;
        found->is_prompts = stands_before(name, begin, OF_PROMPT, SIZE(OF_PROMPT));
        if (!found->is_prompts && !stands_before(name, begin, "\"", 1))
            continue;
        while (at < end && ((*at >= '0' && *at <= '9') || *at == ',' || *at == ' '))
            at++;
        if (at < end && *at == ']') {
            found->opens = opens;
            found->closes = at;
            return 1;
        }
    }
    return 0;
}

/* Write the ids of a list and a comma. */
static char *
write_ids(char *to, const List *list)
{
    size_t size = (size_t)(list->closes - list->opens - 1);
    memcpy(to, list->opens + 1, size);
    to[size] = ',';
    return to + size + 1;
}

static PyObject *
cut_out(PyObject *Py_UNUSED(module), PyObject *events)
{
    if (!PyBytes_CheckExact(events)) {
        PyErr_SetString(PyExc_TypeError, "events are bytes");
        return NULL;
    }
    const char *begin = PyBytes_AS_STRING(events), *end = begin + PyBytes_GET_SIZE(events);
    List list = {begin, begin, 0};

    Py_ssize_t shown_size = end - begin, ids_size = 0, prompt_size = 0;
    for (const char *at = begin; next_list(at, begin, end, &list); at = list.closes) {
        shown_size += SIZE(NO_IDS) - (list.closes + 1 - list.opens);
        *(list.is_prompts ? &prompt_size : &ids_size) += list.closes - list.opens;
    }
    int has_any = ids_size || prompt_size;
    PyObject *all = PyTuple_New(3);
    PyObject *shown = has_any ? PyBytes_FromStringAndSize(NULL, shown_size) : Py_NewRef(events);
    PyObject *ids = PyBytes_FromStringAndSize(NULL, ids_size);
    PyObject *prompt = PyBytes_FromStringAndSize(NULL, prompt_size);
    if (all == NULL || shown == NULL || ids == NULL || prompt == NULL) {
        Py_XDECREF(all);
        Py_XDECREF(shown);
        Py_XDECREF(ids);
        Py_XDECREF(prompt);
        return NULL;
    }
    if (has_any) {
        char *to = PyBytes_AS_STRING(shown), *id = PyBytes_AS_STRING(ids), *of_prompt = PyBytes_AS_STRING(prompt);
        const char *copied = begin;
        while (next_list(copied, begin, end, &list)) {
            memcpy(to, copied, (size_t)(list.opens - copied));
            to += list.opens - copied;
            memcpy(to, NO_IDS, SIZE(NO_IDS));
            to += SIZE(NO_IDS);
            if (list.is_prompts)
                of_prompt = write_ids(of_prompt, &list);
            else
                id = write_ids(id, &list);
            copied = list.closes + 1;
        }
        memcpy(to, copied, (size_t)(end - copied));
    }
    PyTuple_SET_ITEM(all, 0, shown);
    PyTuple_SET_ITEM(all, 1, ids);
    PyTuple_SET_ITEM(all, 2, prompt);
    return all;
}

static PyMethodDef METHODS[] = {{"cut_out", cut_out, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_token_ids", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__token_ids(void)
{
    return PyModuleDef_Init(&MODULE);
}
