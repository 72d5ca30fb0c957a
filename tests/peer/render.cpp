// Prompts as llama.cpp's own template engine makes them (scripts/install-templates builds this).
// A line of stdin: {"template", "bos", "eos", "messages", "variables", maybe "tools"}; of stdout:
// {"prompt"} or {"error"}.
#include "chat.h"
#include "json.h"

#include <iostream>
#include <map>
#include <string>

using json = common_json;

// What the engine takes from common/common.cpp, which needs all of llama.cpp.
std::string string_join(const std::vector<std::string> & values, const std::string & separator) {
    std::string joined;
    for (size_t i = 0; i < values.size(); i++) {
        joined += (i ? separator : "") + values[i];
    }
    return joined;
}

std::string string_repeat(const std::string & text, size_t times) {
    std::string repeated;
    while (times-- > 0) {
        repeated += text;
    }
    return repeated;
}

void string_replace_all(std::string & text, const std::string & old, const std::string & with) {
    size_t at = 0;
    while (!old.empty() && (at = text.find(old, at)) != std::string::npos) {
        text.replace(at, old.size(), with);
        at += with.size();
    }
}

std::vector<std::string> string_split(const std::string & text, const std::string & separator) {
    std::vector<std::string> parts;
    size_t start = 0, end;
    while ((end = text.find(separator, start)) != std::string::npos) {
        parts.push_back(text.substr(start, end - start));
        start = end + separator.size();
    }
    parts.push_back(text.substr(start));
    return parts;
}

bool tty_can_use_colors() { return false; }

std::string common_token_to_piece(const llama_vocab *, llama_token, bool) {
    throw std::logic_error("there is no vocabulary here");
}

std::vector<llama_token> common_tokenize(const llama_vocab *, const std::string &, bool, bool) {
    throw std::logic_error("there is no vocabulary here");
}

static const common_chat_templates * opened(const json & asked) {
    static std::map<std::string, common_chat_templates_ptr> known;
    const auto source = asked.at("template").get<std::string>();
    auto & found = known[source];
    if (!found) {
        found = common_chat_templates_init(nullptr, source, asked.at("bos").get<std::string>(),
                                           asked.at("eos").get<std::string>());
    }
    return found.get();
}

static std::string render(const json & asked) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(asked.at("messages"));
    if (asked.contains("tools")) {
        inputs.tools = common_chat_tools_parse_oaicompat(asked.at("tools"));
    }
    for (const auto & [name, value] : asked.at("variables").items()) {
        inputs.chat_template_kwargs[name] = value.dump();
    }
    return common_chat_templates_apply(opened(asked), inputs).prompt;
}

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        json said;
        try {
            said = json{ { "prompt", render(json::parse(line)) } };
        } catch (const std::exception & error) {
            said = json{ { "error", error.what() } };
        }
        std::cout << said.dump() << std::endl;
    }
}
