/* The language of the conformance suite's table, for the driver for C++: the words of a call, what a case has made, and what a call says. */
#ifndef CONFORMANCE_TABLE_HPP
#define CONFORMANCE_TABLE_HPP

#include <tine.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace conformance {

using std::string;
using bytes = std::vector<unsigned char>;

[[noreturn]] inline void confused(const string &what, const string &word)
{
    std::cerr << "conformance driver: " << what << ": " << word << '\n';
    std::exit(2);
}

inline std::int64_t number(const string &text)
{
    char *end;
    std::int64_t value = std::strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end)
        confused("no number", text);
    return value;
}

/* ---- Results ---- */

inline string show(const void *data, std::size_t size)
{
    auto *at = static_cast<const unsigned char *>(data);
    std::uint64_t hash = 0xcbf29ce484222325;
    bool text = size <= 64;
    for (std::size_t i = 0; i < size; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3;
        text = text && at[i] >= 0x20 && at[i] <= 0x7e;
    }
    if (size == 0)
        return "none";
    if (text)
        return "text:" + string(at, at + size);
    char line[64];
    std::snprintf(line, sizeof line, "bytes:%zu:%016" PRIx64, size, hash);
    return line;
}

template <class T>
string code(const tine::expected<T> &what)
{
    return what ? "OK" : what.error().name();
}

/* For what says no more than that it is not possible now. */
inline string now_or(bool done, std::chrono::nanoseconds timeout)
{
    return done ? "OK" : timeout.count() == 0 ? "EAGAIN" : "ETIMEDOUT";
}

/* ---- Words ---- */

/* Whatever a name stands for: it, and its address where workers may have that. */
struct thing {
    std::shared_ptr<void> object;
    void *address = nullptr;
};

/* One call of the table, and what the case has made so far. */
class table {
protected:
    void read(const string &arguments)
    {
        std::istringstream words(arguments);
        words_.clear();
        for (string word; words >> word;)
            words_.push_back(word);
    }

    const string &argument(std::size_t at)
    {
        if (at >= words_.size())
            confused("an argument is missing", std::to_string(at));
        return words_[at];
    }

    std::optional<string> setting(const string &name)
    {
        for (const string &word : words_)
            if (word.rfind(name + "=", 0) == 0)
                return word.substr(name.size() + 1);
        return std::nullopt;
    }

    std::int64_t number_setting(const string &name, std::int64_t otherwise = 0)
    {
        auto text = setting(name);
        return text ? number(*text) : otherwise;
    }

    std::int64_t ns_setting(const string &name)
    {
        return tine::ns(std::chrono::milliseconds(number_setting(name)));
    }

    std::chrono::nanoseconds timeout()
    {
        auto text = setting("timeout_ms");
        return text ? std::chrono::milliseconds(number(*text)) : tine::forever;
    }

    bool shows(const string &what)
    {
        for (const string &word : words_)
            if (word == "show=" + what)
                return true;
        return false;
    }

    thing &named(const string &name)
    {
        auto found = things_.find(name);
        if (found == things_.end())
            confused("nothing has the name", name);
        return found->second;
    }

    template <class T>
    T &object(std::size_t at = 0)
    {
        return *static_cast<T *>(named(argument(at)).object.get());
    }

    template <class T>
    bytes list(const string &items)
    {
        bytes all;
        std::istringstream in(items);
        for (string item; std::getline(in, item, ',');) {
            T value = item[0] == '@' ? T(reinterpret_cast<std::intptr_t>(named(item.substr(1)).address)) : T(number(item));
            auto *at = reinterpret_cast<unsigned char *>(&value);
            all.insert(all.end(), at, at + sizeof value);
        }
        return all;
    }

    bytes parse(const string &word)
    {
        auto rest = word.substr(std::min(word.size(), word.find(':') + 1));
        if (word == "none")
            return {};
        if (word.rfind("text:", 0) == 0)
            return bytes(rest.begin(), rest.end());
        if (word.rfind("bytes:", 0) == 0) {
            bytes all(std::size_t(number(rest)));
            for (std::size_t i = 0; i < all.size(); i++)
                all[i] = static_cast<unsigned char>(i + i / 251);
            return all;
        }
        if (word.rfind("ints:", 0) == 0)
            return list<std::int32_t>(rest);
        if (word.rfind("words:", 0) == 0)
            return list<std::int64_t>(rest);
        confused("no bytes", word);
    }

    std::map<string, thing> things_;

private:
    std::vector<string> words_;
};

} // namespace conformance

#endif
